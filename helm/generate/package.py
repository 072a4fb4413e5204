"""Packs the chart: `python -m helm.generate.package OUT [--sign KEY]` writes plora-VERSION.tgz and SHA256SUMS.

The same tree gives the same bytes: entries are sorted, have no owner and one fixed time (SOURCE_DATE_EPOCH, or 1980).
With --sign a provenance file stands beside the archive, as `helm verify` reads it, and the chart names the key.
"""

import argparse
import fnmatch
import gzip
import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

CHART = Path(__file__).resolve().parents[1]
EPOCH = 315_532_800  # 1980-01-01: the earliest time that every archive format can hold
SUMS = "SHA256SUMS"
KEYS = "https://github.com/plora/plora/blob/main/SECURITY.md"


def pack(chart: Path, out: Path, *, epoch: int = EPOCH, key: str = "") -> Path:
    """Write the archive of `chart` and its checksum into `out`; the path of the archive. `key` is a fingerprint."""
    meta = described(chart, key)
    name, version = _field(meta, "name"), _field(meta, "version")
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for file in files(chart):
            content = meta.encode() if file == chart / "Chart.yaml" else file.read_bytes()
            entry = tarfile.TarInfo(f"{name}/{file.relative_to(chart).as_posix()}")
            entry.size, entry.mtime, entry.mode = len(content), epoch, 0o644
            archive.addfile(entry, io.BytesIO(content))
    out.mkdir(parents=True, exist_ok=True)
    packed = out / f"{name}-{version}.tgz"
    packed.write_bytes(gzip.compress(raw.getvalue(), 9, mtime=epoch))
    (out / SUMS).write_text(f"{_digest(packed)}  {packed.name}\n", encoding="utf-8")
    return packed


def described(chart: Path, key: str) -> str:
    """Chart.yaml, whose annotations are its last part, with the key that signs, if there is one."""
    meta = (chart / "Chart.yaml").read_text(encoding="utf-8")
    if not key:
        return meta
    return f"{meta.rstrip()}\n  artifacthub.io/signKey: |\n    fingerprint: {key}\n    url: {KEYS}\n"


def fingerprint(key: str, gpg: tuple[str, ...] = ("gpg",)) -> str:
    """The whole fingerprint of the key that gpg knows by `key`."""
    command = [*gpg, "--batch", "--with-colons", "--fingerprint", key]
    listed = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  (gpg of who signs)
    return next(line.split(":")[9] for line in listed.stdout.splitlines() if line.startswith("fpr:"))


def sign(chart: Path, packed: Path, key: str, gpg: tuple[str, ...] = ("gpg",)) -> Path:
    """Write `packed`.prov: Chart.yaml and the archive's digest, signed in clear text by the key of that fingerprint."""
    said = f"{described(chart, key).rstrip()}\n\n...\nfiles:\n  {packed.name}: sha256:{_digest(packed)}\n"
    signed = packed.with_name(f"{packed.name}.prov")
    command = [*gpg, "--batch", "--yes", "--local-user", key, "--clear-sign", "--output", str(signed)]
    subprocess.run(command, input=said.encode(), check=True)  # noqa: S603  (gpg of the operator who signs)
    return signed


def files(chart: Path) -> Iterator[Path]:
    """Every file of the chart that .helmignore does not leave out, in the order of their paths."""
    patterns = [line.strip() for line in (chart / ".helmignore").read_text(encoding="utf-8").splitlines()]
    left_out = [pattern for pattern in patterns if pattern and not pattern.startswith("#")]
    for file in sorted(chart.rglob("*"), key=lambda each: each.relative_to(chart).as_posix()):
        if file.is_file() and not _is_left_out(file.relative_to(chart), left_out):
            yield file


def _is_left_out(file: Path, patterns: list[str]) -> bool:
    places = [file, *file.parents][:-1]
    for pattern in patterns:
        wanted = pattern.strip("/")
        for place in places:
            if pattern.endswith("/") and place == file:
                continue
            if fnmatch.fnmatchcase(place.as_posix() if "/" in wanted else place.name, wanted):
                return True
    return False


def _field(meta: str, name: str) -> str:
    return next(line.split(":", 1)[1].strip().strip("\"'") for line in meta.splitlines() if line.startswith(f"{name}:"))


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(prog="helm.generate.package", description=__doc__)
    parser.add_argument("out", type=Path, help="folder that takes the archive and its checksum")
    parser.add_argument("--sign", metavar="KEY", help="the gpg key that signs the provenance file")
    asked = parser.parse_args()
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", EPOCH))
    key = fingerprint(asked.sign) if asked.sign else ""
    packed = pack(CHART, asked.out, epoch=epoch, key=key)
    if key:
        sign(CHART, packed, key)


if __name__ == "__main__":
    main()
