"""The whole suite: every measurement's quick form one after another, with one table, charts and a report."""

from benchmarks.suite.catalogue import CATALOGUE
from benchmarks.suite.publishing import parts, publish, with_part
from benchmarks.suite.report import charts, figure_rows, markdown_table, print_table, write_report
from benchmarks.suite.running import ROOT, Run, read_runs, run_benchmark, without_data

__all__ = [
    "CATALOGUE",
    "ROOT",
    "Run",
    "charts",
    "figure_rows",
    "markdown_table",
    "parts",
    "print_table",
    "publish",
    "read_runs",
    "run_benchmark",
    "with_part",
    "without_data",
    "write_report",
]
