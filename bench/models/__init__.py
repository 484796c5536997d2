"""One file an objective: the maths that is new in it, and nothing else."""
