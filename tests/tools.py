"""Programs that tests run and pip has not: Prometheus, brokers, a browser. `make tools` unpacks Debian's packages.

They are looked for on the PATH and in the folder PLORA_TOOLS (default `.tools`). Nothing is installed into the system,
nothing needs root. A machine without apt-get goes without: the tests that need one of them skip and say so.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("prometheus", "nats-server", "redis-server", "chromium", "fonts-dejavu-core")
FOLDERS = ("usr/bin", "usr/sbin", "usr/lib/chromium")  # /usr/bin/chromium is a script that wants the system's paths
LIBRARIES = ("usr/lib/{triplet}", "usr/lib/{triplet}/pulseaudio", "lib/{triplet}")
TRIPLETS = ("x86_64-linux-gnu", "aarch64-linux-gnu")


def folder() -> Path:
    """Where the packages are unpacked."""
    return Path(os.environ.get("PLORA_TOOLS", ".tools")).resolve()


def find(name: str) -> Path | None:
    """The program `name`, if this machine has it."""
    unpacked = [folder() / each / name for each in reversed(FOLDERS)]
    found = next((each for each in unpacked if os.access(each, os.X_OK)), None) or shutil.which(name)
    return Path(found) if found else None


def need(name: str) -> Path:
    """The program `name`, or the running test is skipped."""
    found = find(name)
    if found is None:
        pytest.skip(f"{name} is not here: `make tools` unpacks it on Debian and its kin")
    return found


def environment() -> dict[str, str]:
    """The environment in which an unpacked program finds its libraries."""
    libraries = [str(folder() / each.format(triplet=triplet)) for triplet in TRIPLETS for each in LIBRARIES]
    path = os.environ.get("LD_LIBRARY_PATH", "")
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join([*libraries, *([path] if path else [])])}


def fetch(place: Path) -> bool:
    """Unpack PACKAGES, and what of theirs this machine lacks, into `place`; whether that went well."""
    if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
        return False
    archives = place / "archives"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:  # the lists may never have been read; others have to do with what is there
        subprocess.run(["apt-get", "-qq", "update"], check=False)
    command = ["apt-get", "-qq", "install", "--yes", "--no-install-recommends", "--download-only"]
    options = ["-o", f"Dir::Cache::archives={archives}", "-o", "Debug::NoLocking=1"]
    if subprocess.run([*command, *options, *PACKAGES], check=False, stdout=subprocess.DEVNULL).returncode:
        return False
    for package in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(package), str(place)], check=True)
    shutil.rmtree(archives)
    return True


if __name__ == "__main__":
    if not fetch(folder()):
        print("no tools: apt-get could not fetch them; the tests that need them will be skipped", file=sys.stderr)
