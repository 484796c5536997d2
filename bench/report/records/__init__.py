"""From records to runs: what is compared, and which of its numbers may be."""
