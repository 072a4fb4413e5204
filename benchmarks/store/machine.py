"""What the figures were measured on, and by which command."""

import importlib.metadata
import os
import platform
import sqlite3
import sys

from benchmarks.fit.machine import commit, cpu

PACKAGES = ("sqlalchemy", "psycopg", "cryptography", "fastapi", "uvicorn")


def describe() -> dict[str, str | int | float | None]:
    """Names and numbers for store.json."""
    return {
        "cpu": cpu(),
        "cores": os.cpu_count() or 1,
        "ram_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_at_start": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "command": " ".join(["python -m benchmarks.store", *_words()]),
        "commit": commit(),
    }


def _words() -> list[str]:
    """The command line, without the name of a folder that nobody else has."""
    return [
        "DIR" if before == "--out" else word for before, word in zip(["", *sys.argv[1:]], sys.argv[1:], strict=False)
    ]
