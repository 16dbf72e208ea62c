"""The version: the only place that says it."""

__version__ = "3.0.0.dev0"
