"""Claims, and the verdicts of the records on them."""
