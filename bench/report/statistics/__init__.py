"""Estimates over seeds, tests and ranks, and which numbers may be compared."""
