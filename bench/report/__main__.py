"""python -m bench.report is bench-report."""

from bench.report import main

main()
