"""Measures a voice on this machine: what the machine allows, decoder and vocoder, streams, memory.

RTF is compute time over audio time; RTFX is its inverse: how many times faster than real time.
"""

from fte.bench.compare import compare, comparison_table, read_report
from fte.bench.options import BenchOptions, parse_streams
from fte.bench.plot import check_picture, plot_report
from fte.bench.report import run_bench
from fte.bench.rivals import Rival

__all__ = [
    "BenchOptions",
    "Rival",
    "check_picture",
    "compare",
    "comparison_table",
    "parse_streams",
    "plot_report",
    "read_report",
    "run_bench",
]
