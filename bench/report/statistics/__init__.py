"""Estimates over seeds, tests and ranks."""
