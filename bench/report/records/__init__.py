"""From records to runs: the axes they differ in, their metrics, averages over them, and tidy rows."""
