"""One file per objective, with only the maths that is new in it."""
