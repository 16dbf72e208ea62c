"""Measures what llmux costs, beside a direct connection and beside nginx: ``make bench``."""
