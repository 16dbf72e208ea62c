"""Faults, and what becomes of them: docs/faults.rst has the table."""
