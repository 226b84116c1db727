"""Measures the ceiling of `fte bench` and the same with independent tools, in turn.

    python benchmarks/check_ceiling.py --rounds 5

- Reading: a C program of its own, compiled on the spot with `cc -O3 -march=native -fopenmp`, which sums a buffer as
  the STREAM benchmark's reductions do; fte bench takes NumPy's vectorized maximum.
- Multiplying in fp32: torch.matmul and NumPy's own BLAS; fte bench takes ONNX Runtime's MatMul.
- Multiplying in int8: torch._int_mm (oneDNN); fte bench takes ONNX Runtime's MatMulInteger.

The best of all rounds counts on both sides, and the better one of two independent tools: a ceiling is what can be
reached. The last line printed is JSON; the exit status is 1 where a ratio is further than 20 % from 1.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from fte.bench.ceiling import LARGE_BYTES, best_seconds, multiply_rate, read_rate

STEP_BYTES = {"int8": 28_428_800, "fp32": 107_411_968}
"""Weights of the larger flow step of the published size."""
ROWS, INPUTS, OUTPUTS = 4096, 1024, 1024
AGREE = 0.2

SOURCE = r"""
#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_PAGE (2 << 20)

/* Seconds in which `threads` threads read their parts of `bytes` bytes, `passes` times. */
double read_seconds(int64_t bytes, int64_t passes, int threads) {
    int64_t count = bytes / 8 / threads;
    int64_t size = (count * threads * 8 + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    int64_t *buffer = aligned_alloc(HUGE_PAGE, size);
    madvise(buffer, size, MADV_HUGEPAGE); /* as NumPy does: with small pages address translation is measured instead */
    for (int64_t i = 0; i < count * threads; i++) buffer[i] = i;
    volatile int64_t sink = 0;
    double seconds = 0;
#pragma omp parallel num_threads(threads)
    {
        const int64_t *part = buffer + count * omp_get_thread_num();
#pragma omp barrier
        double started = omp_get_wtime();
        int64_t total = 0;
        for (int64_t pass = 0; pass < passes; pass++) {
            int64_t sum = 0;
            for (int64_t i = 0; i < count; i++) sum += part[i];
            total += sum;
            __asm__ volatile("" : "+r"(total) : : "memory"); /* the buffer may have changed: read it again */
        }
#pragma omp barrier
#pragma omp critical
        {
            sink += total;
            double took = omp_get_wtime() - started;
            if (took > seconds) seconds = took;
        }
    }
    free(buffer);
    return seconds;
}
"""


def compiled(folder: str) -> Callable[[int, int, int], float]:
    """The C program as a function of bytes, passes and threads."""
    source, library = Path(folder, "read.c"), Path(folder, "read.so")
    source.write_text(SOURCE, encoding="ascii")
    subprocess.run(["cc", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-o", library, source], check=True)
    function = ctypes.CDLL(str(library)).read_seconds
    function.argtypes, function.restype = [ctypes.c_int64, ctypes.c_int64, ctypes.c_int], ctypes.c_double
    return function  # type: ignore[no-any-return]


def gemm_rate(multiply: Callable[[], object]) -> float:
    """Multiply-adds a second of one large product."""
    return ROWS * INPUTS * OUTPUTS / best_seconds(multiply)


def contestants(
    read_seconds: Callable[[int, int, int], float], threads: int
) -> dict[str, tuple[Callable[[], float], ...]]:
    """By figure: what fte bench measures, then the independent tools."""

    def c_rate(size: int) -> float:
        passes = max(1, LARGE_BYTES // size)
        return passes * size / min(read_seconds(size, passes, threads) for _ in range(10))

    random = np.random.default_rng(0)
    a, b = (random.standard_normal(shape, np.float32) for shape in ((ROWS, INPUTS), (INPUTS, OUTPUTS)))
    ta, tb = torch.from_numpy(a), torch.from_numpy(b)
    ia, ib = ((16 * t).to(torch.int8) for t in (ta, tb))
    reading = {
        f"reading {name}, GB/s": (lambda s=size: read_rate(s, threads), lambda s=size: c_rate(s))  # type: ignore[misc]
        for name, size in {"512 MiB": LARGE_BYTES, **{f"a step in {p}": s for p, s in STEP_BYTES.items()}}.items()
    }
    return reading | {
        "multiplying fp32, G/s": (
            lambda: multiply_rate("fp32", threads),
            lambda: gemm_rate(lambda: torch.matmul(ta, tb)),
            lambda: gemm_rate(lambda: a @ b),
        ),
        "multiplying int8, G/s": (
            lambda: multiply_rate("int8", threads),
            lambda: gemm_rate(lambda: torch._int_mm(ia, ib)),
        ),
    }


def main() -> int:
    """Measure in turn, print a line a figure, then JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        figures = contestants(compiled(folder), threads)
        best = {name: [0.0] * len(tools) for name, tools in figures.items()}
        for _ in range(rounds):
            for name, tools in figures.items():
                best[name] = [max(old, tool() / 1e9) for old, tool in zip(best[name], tools, strict=True)]
    ratios = {name: ours / max(others) for name, (ours, *others) in best.items()}
    for name, (ours, *others) in best.items():
        shown = ", ".join(f"{other:.1f}" for other in others)
        print(f"{name:34} fte bench {ours:7.1f}   independent {shown:14}   ratio {ratios[name]:.2f}")
    print(json.dumps({"threads": threads, "rounds": rounds, "measured": best, "ratios": ratios}))
    return int(any(abs(ratio - 1) > AGREE for ratio in ratios.values()))


if __name__ == "__main__":
    sys.exit(main())
