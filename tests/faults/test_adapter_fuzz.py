"""Hostile files at the import gate: mutants of good ones (C1), bombs (C2), and uploads that would run code (C3)."""

import gc
import hashlib
import io
import json
import math
import pickle
import random
import resource
import struct
import sys
import tarfile
import time
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.numpy import save

import plora
from daemon.gatekeeper import Entering, Gatekeeper
from plora import AdapterRejected
from plora.gate import Expected, FileKind, check
from tests.faults.figures import record

SEED = 2_026_0303
BASE = "ab" * 32
SHAPES = {f"m.{at}.lora_{letter}.weight": (8, 64) if letter == "A" else (64, 8) for at in range(24) for letter in "AB"}
SEALED = {FileKind.BASIS: b"PLB1", FileKind.LOW_RANK: b"PLR1"}


def good_files() -> dict[FileKind, bytes]:
    draw = torch.Generator().manual_seed(SEED)

    def some(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw) * 0.02

    targets = tuple(f"layer.{at}.query" for at in range(6))
    tensors = {f"A.{name}": some(4, 32) for name in targets} | {f"B.{name}": some(32, 4) for name in targets}
    shared = {f"P.{name}": some(4, 16) for name in targets} | {"head.weight": some(2, 32), "prior.mean": some(16)}
    spec = plora.BasisSpec(BASE, plora.Kind.CLASSIFICATION, ("no", "yes"), targets, 4, 8.0, 16)
    basis = plora.Basis(spec, tensors | shared)
    place = (BASE, basis.fingerprint)
    sums = plora.Statistics(*place, 1.0, 9, 2.5, some(16).double(), some(16).double(), torch.eye(16).double())
    plain = {name: some(*shape).numpy() for name, shape in SHAPES.items()}
    return {
        FileKind.ADAPTER: plora.dumps(plora.Adapter(*place, some(16))),
        FileKind.STATISTICS: plora.dumps(sums),
        FileKind.BASIS: plora.dumps(basis),
        FileKind.LOW_RANK: plora.dumps(plora.LowRankAdapter(*place, 4, 8.0, {**tensors, "vector": some(16)})),
        FileKind.TENSORS: save(plain, {"format": "pt"}),
    }


FILES = good_files()
READERS: dict[FileKind, Callable[[bytes], object]] = {
    FileKind.ADAPTER: plora.loads_adapter,
    FileKind.STATISTICS: plora.loads_statistics,
    FileKind.BASIS: plora.loads_basis,
    FileKind.LOW_RANK: plora.loads_low_rank,
}
PLACE = Expected(base=BASE, shapes=SHAPES)


class Mutation:
    """Twelve ways to spoil a file. Those of a file with a digest get a right one half of the time."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw

    def spoil(self, kind: FileKind, data: bytes) -> tuple[int, bytes]:
        operator = self.draw.randrange(12)
        start = 36 if kind in SEALED else 0
        inner = start if self.draw.random() < 0.8 else 0
        spoiled = data[:inner] + bytes(self._operate(operator, bytearray(data[inner:])))
        return operator, self._digested(kind, spoiled) if self.draw.random() < 0.5 else spoiled

    def _digested(self, kind: FileKind, data: bytes) -> bytes:
        if kind in SEALED:
            return SEALED[kind] + hashlib.sha256(data[36:]).digest() + data[36:]
        if kind in {FileKind.ADAPTER, FileKind.STATISTICS}:
            return data[:-32] + hashlib.sha256(data[:-32]).digest()
        return data

    def _operate(self, operator: int, data: bytearray) -> bytes | bytearray:  # noqa: PLR0911
        draw, size = self.draw, max(1, len(data))
        match operator:
            case 0:
                data[draw.randrange(size)] ^= 1 << draw.randrange(8)
            case 1:
                data[draw.randrange(min(size, 600))] ^= 1 << draw.randrange(8)
            case 2:
                return data[: draw.randrange(size)]
            case 3:
                return data + draw.randbytes(draw.randrange(1, 64))
            case 4:
                struct.pack_into(
                    "<Q", data, 0, draw.choice([0, 1, 1 << 31, 1 << 63, (1 << 64) - 1, draw.getrandbits(64)])
                )
            case 5:
                one, other = draw.randrange(size - 8), draw.randrange(size - 8)
                data[one : one + 8], data[other : other + 8] = data[other : other + 8], data[one : one + 8]
            case 6:
                return self._retold(data)
            case 7:
                at = draw.randrange(max(1, size - 4) // 4) * 4
                data[at : at + 4] = struct.pack("<f", draw.choice([math.nan, math.inf, -math.inf, 3e38, 1e-45]))
            case 8:
                depth = draw.choice([1_000, 20_000])
                return _framed(b'{"a":' + b"[" * depth + b"]" * depth + b"}")
            case 9:
                told = {
                    f"w{at}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
                    for at in range(draw.choice([10, 3_000]))
                }
                return _framed(json.dumps(told).encode())
            case 10:
                at = draw.randrange(size)
                data[at : at + draw.randrange(1, 512)] = bytes(draw.randrange(1, 512))
            case _:
                return draw.randbytes(draw.randrange(4_096))
        return data

    def _retold(self, data: bytearray) -> bytes | bytearray:
        """The header of a safetensors body, told otherwise."""
        draw = self.draw
        try:
            length = int.from_bytes(data[:8], "little")
            told = json.loads(bytes(data[8 : 8 + length]))
        except ValueError:
            return data[::-1]
        name = draw.choice([each for each in told if each != "__metadata__"])
        entry = told[name]
        change = draw.choice(["shape", "dtype", "offsets", "drop", "twice", "notes", "name", "facts"])
        if change == "shape":
            strange = [
                [0, 2**62],
                [2**31, 2**31],
                [-1, 4],
                [64, 8],
                [8, 64, 1],
                [1] * 3_000,
                [8.0, 64],
                [True, 512],
                [],
            ]
            entry["shape"] = draw.choice(strange)
        elif change == "dtype":
            entry["dtype"] = draw.choice(["F64", "I8", "BOOL", "F4", "BF16", "X", "", None, [], {}])
        elif change == "offsets":
            strange = [[0, 0], [0, 2_048], [-1, 2_047], [2**64, 2**64], [1e3, 2e3], ["a"], [], None]
            entry["data_offsets"] = draw.choice(strange)
        elif change == "drop":
            del told[name]
        elif change == "name":
            told[draw.choice(["../", "\x00", "é" * 300, "\ud800"]) + name] = told.pop(name)
        elif change == "notes":
            strange = [{"a": 1}, {"a": "x" * 10**5}, [], {str(at): "" for at in range(9_999)}, {"plora": "{"}, None]
            told["__metadata__"] = draw.choice(strange)
        elif change == "facts":
            told["__metadata__"] = {"plora": json.dumps(self._facts(told))}
        text = json.dumps(told).encode()
        if change == "twice":
            text = text[:-1] + b"," + json.dumps({name: entry}).encode()[1:]
        return _framed(text) + data[8 + length :]

    def _facts(self, told: dict[str, dict[str, str]]) -> object:
        facts = json.loads(told["__metadata__"].get("plora", "{}"))
        names = ["rank", "alpha", "dimensions", "kind", "labels", "targets", "base", "basis", "link", "bias", "format"]
        deep: object = []
        for _ in range(300):
            deep = [deep]
        strange = [None, 0, -1, 10**30, 1e308, True, "x", "9" * 5_000, [], [[]], {}, {"a": []}, deep, ["x"] * 5_000]
        return {**facts, self.draw.choice(names): self.draw.choice(strange)}


def _framed(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def test_a_mutated_file_is_refused_with_a_code_or_is_whole() -> None:
    _fuzz(600)


@pytest.mark.long
def test_very_many_mutated_files_are_refused_with_a_code_or_are_whole() -> None:
    _fuzz(10_000)


def _fuzz(count: int) -> None:
    draw = random.Random(SEED)
    mutation, kinds = Mutation(draw), list(FILES)
    for kind in kinds:  # what is loaded once is no growth
        check(kind, FILES[kind], PLACE)
    gc.collect()
    gc.freeze()  # what pytest and torch hold is not the gate's to look through
    codes: Counter[str] = Counter()
    untyped, slowest, before = [], 0.0, peak_bytes()
    for _ in range(count):
        kind = draw.choice(kinds)
        operator, spoiled = mutation.spoil(kind, FILES[kind])
        began = time.perf_counter()
        try:
            check(kind, spoiled, PLACE)
            codes["whole"] += 1
        except AdapterRejected as rejected:
            codes[rejected.code] += 1
        except Exception as error:  # noqa: BLE001 - what must not be
            untyped.append((kind.value, operator, repr(error)))
        else:
            if kind in READERS:
                assert plora.dumps(READERS[kind](spoiled))  # what comes in can be used
        slowest = max(slowest, time.perf_counter() - began)
    gc.unfreeze()
    growth = (peak_bytes() - before) >> 20
    assert untyped == []
    assert growth <= 32
    assert slowest <= 0.5
    assert len(codes) >= 15
    record(
        "C1",
        SEED,
        files=count,
        untyped=0,
        whole=codes["whole"],
        codes=len(codes),
        growth_mb=growth,
        slowest_ms=round(1_000 * slowest, 1),
        full=count >= 10_000,
    )


def _bomb(text: bytes, numbers: bytes = b"") -> bytes:
    return _framed(text) + numbers


def bombs() -> dict[str, bytes]:
    many = b",".join(b'"w%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}' % at for at in range(1_000_000))
    return {
        "a header of 100 MB": _bomb(b"{" + b" " * (100 << 20) + b"}"),
        "a million tensors": _bomb(b"{" + many + b"}"),
        "as many tensors as fit": _bomb(b"{" + many[: 250 << 10].rpartition(b',"w')[0] + b"}"),
        "a shape of [0, 2^62]": _bomb(b'{"a":{"dtype":"F32","shape":[0,%d],"data_offsets":[0,0]}}' % 2**62),
        "a shape of 5,000": _bomb(
            b'{"a":{"dtype":"F32","shape":[' + b"1," * 4_999 + b'1],"data_offsets":[0,4]}}', bytes(4)
        ),
        "100,000 levels": _bomb(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        "as many levels as fit": _bomb(b'{"a":' + b"[" * 16_000 + b"]" * 16_000 + b"}"),
        "names twice": _bomb(b"{" + b",".join(b'"a":{}' for _ in range(4_000)) + b"}"),
        "a length of 4 GiB": struct.pack("<Q", 4 << 30) + b"{}" + bytes(100),
        "a number of 250,000 digits": _bomb(b'{"a":' + b"9" * 250_000 + b"}"),
        "a text of 250,000 escapes": _bomb(b'{"' + b"\\u0041" * 40_000 + b'":1}'),
    }


def seconds_of(kind: FileKind, data: bytes) -> float:
    began = time.perf_counter()
    with pytest.raises(AdapterRejected):
        check(kind, data, PLACE)
    return time.perf_counter() - began


def test_bombs_are_refused_in_no_time_and_little_memory() -> None:
    slowest, largest = 0.0, 0
    files = bombs()
    for name, data in files.items():
        for kind, magic in {FileKind.TENSORS: b"", **SEALED}.items():
            file = magic + hashlib.sha256(data).digest() + data if magic else data
            seconds = min(seconds_of(kind, file) for _ in range(3))  # others share the machine
            tracemalloc.start()
            with pytest.raises(AdapterRejected):
                check(kind, file, PLACE)
            used = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert seconds <= 0.05, (name, kind, seconds)
            assert used <= 16 << 20, (name, kind, used)
            slowest, largest = max(slowest, seconds), max(largest, used)
    record("C2", SEED, bombs=len(files), slowest_ms=round(1_000 * slowest, 1), most_mb=round(largest / 2**20, 1))


class Evil:
    """Unpickled, it would run a command."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os  # noqa: PLC0415

        return os.system, ("touch /tmp/plora-was-here",)


def uploads() -> dict[str, bytes]:
    """Twenty files that run code in whoever unpickles them."""
    found = {f"protocol {at}": pickle.dumps(Evil(), at) for at in range(6)}
    found |= {f"a list in protocol {at}": pickle.dumps([Evil(), {"weights": Evil()}], at) for at in range(6)}
    for name, legacy in (("zip", True), ("legacy", False)):
        buffer = io.BytesIO()
        torch.save({"weights": Evil()}, buffer, _use_new_zipfile_serialization=legacy)
        found[f"torch {name}"] = buffer.getvalue()
    buffer = io.BytesIO()
    np.savez(buffer, weights=np.array([Evil()], dtype=object), allow_pickle=True)
    found["npz"] = buffer.getvalue()
    buffer = io.BytesIO()
    np.save(buffer, np.array([Evil()], dtype=object), allow_pickle=True)
    found["npy"] = buffer.getvalue()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("../../archive/data.pkl", pickle.dumps(Evil()))
    found["a zip that climbs"] = buffer.getvalue()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("data.pkl")
        member.size = len(found["protocol 4"])
        archive.addfile(member, io.BytesIO(found["protocol 4"]))
    found["tar"] = buffer.getvalue()
    found["a pickle behind a header"] = _bomb(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', found["protocol 4"]
    )
    found["a pickle behind our magic"] = b"PLB1" + hashlib.sha256(found["protocol 2"]).digest() + found["protocol 2"]
    return found


def test_uploads_that_would_run_code_are_refused_and_nobody_unpickles_them() -> None:
    files = uploads()
    assert len(files) == 20
    seen: list[str] = []
    watching = True

    def watch(event: str, _: object) -> None:
        if watching and event == "pickle.find_class":
            seen.append(event)

    sys.addaudithook(watch)
    gatekeeper = Gatekeeper()  # its process ends itself at pickle.find_class, which would be told as gate_died
    told: Counter[str] = Counter()
    try:
        for kind in ("adapter", "statistics", "basis", "low_rank"):
            codes = gatekeeper.check([Entering(kind, data) for data in files.values()])
            assert all(code not in {None, "gate_died"} for code in codes)
            told.update(code or "" for code in codes)
        for data in files.values():
            for kind in FileKind:
                with pytest.raises(AdapterRejected):
                    check(kind, data, PLACE)
            for reader in READERS.values():
                with pytest.raises(plora.Malformed):
                    reader(data)
    finally:
        watching = False
        gatekeeper.close()
    assert seen == []
    assert {"pickle", "archive", "numpy"} <= set(told)
    record("C3", SEED, uploads=len(files), refused=sum(told.values()), find_class=0)
