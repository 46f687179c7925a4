"""Runs many coding agents on one git repository at once and lands only what merges cleanly and passes."""

__version__ = "0.1.0"
