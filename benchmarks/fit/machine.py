"""What the figures were measured on, and by which command."""

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.fit.stopwatch import synchronise

PACKAGES = ("torch", "transformers", "peft", "accelerate", "numpy")


def describe(seed: int, threads: int) -> dict[str, str | int | float | None]:
    """Names and numbers for fit.json: processor, memory, versions, GPU or None, command, seed, commit.

    `gemm_gflops_*` is what one large matrix product reaches here: what passes can be held against.
    """
    return {
        "cpu": cpu(),
        "cores": os.cpu_count() or 1,
        "threads": threads,
        "ram_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "gemm_gflops_fp32": round(multiply_speed(torch.float32), 1),
        "gemm_gflops_bf16": round(multiply_speed(torch.bfloat16), 1),
        "command": " ".join(["python -m benchmarks.fit", *sys.argv[1:]]),
        "seed": seed,
        "commit": commit(),
    }


def multiply_speed(dtype: torch.dtype, size: int = 1024, times: int = 8) -> float:
    """GFLOP/s of square matrix products with torch's threads, the best of `times`."""
    where = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = (torch.ones(size, size, dtype=dtype, device=where) for _ in range(2))
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        a @ b
        synchronise()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """The commit of the checkout, with a + where files differ from it."""
    root = Path(__file__).parents[2]
    try:
        commit = _git(root, "rev-parse", "--short", "HEAD")
        return commit + ("+" if _git(root, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True, text=True).stdout.strip()
