"""Claims, and what the records say about them."""
