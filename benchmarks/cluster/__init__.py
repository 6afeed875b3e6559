"""Faults on several hosts: `make bench NAME=cluster`; see `__main__.py`."""
