"""Faults and attacks, each against a real server process: `make soak`, or `python -m reliability ROW`.

One module for each row of the table in docs/reliability.md. A row tries, counts what did not hold, and says why. The
tests run the same rows, shorter. Knows the service from outside only: its command line, HTTP and files.
"""
