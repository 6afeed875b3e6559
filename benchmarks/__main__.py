"""Says which measurements there are: `python -m benchmarks`."""

from __future__ import annotations

import pkgutil

import benchmarks

_NOT_MEASUREMENTS = ("__main__", "measure", "language_models", "generation_ways")

if __name__ == "__main__":
    print("Measurements, each run as `make bench NAME=…` or `python -m benchmarks.…`, with --help:")
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name not in _NOT_MEASUREMENTS:
            print(f"  {module.name}")
