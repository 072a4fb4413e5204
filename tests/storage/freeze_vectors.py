"""Adds vectors to vectors.json: run once for a new set of them. Old vectors are kept for ever.

python tests/storage/freeze_vectors.py
"""

import base64
import dataclasses
import hashlib
import json
import random
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from storage.keys import KeyPlace, KeyRing
from storage.sealing import Context, Kind, seal, seal_body, seal_message

SEED = random.Random(20260301)
SIZES = (0, 1, 15, 16, 17, 512, 1000, 4096, 16384, 16385)
HEADER, BODY = 48 + 140, 24 + 32


class FixedKeys:
    """A provider with given epochs."""

    name = "fixed"
    delay = timedelta(0)

    def __init__(self, known: dict[int, bytes]) -> None:
        self._known = known

    def epochs(self) -> dict[int, bytes]:
        return dict(self._known)

    def new_epoch(self) -> int:
        raise NotImplementedError

    def destroy_epoch(self, epoch: int) -> timedelta:
        raise NotImplementedError


def context(kind: Kind) -> Context:
    ids = [SEED.randbytes(16) for _ in range(4)]
    return Context(
        kind,
        ids[0],
        ids[1],
        ids[2],
        generation=SEED.randrange(1, 2**32),
        object_id=ids[3],
        version=SEED.randrange(2**32),
        run=SEED.randrange(2**63),
        epoch=SEED.randrange(2**63),
        base=SEED.randbytes(32),
        basis=SEED.randbytes(32),
        watermark=SEED.randrange(2**63),
    )


def vector(  # noqa: PLR0917
    name: str, form: str, key: bytes, place: object, plaintext: bytes | None, sealed: bytes
) -> dict[str, object]:
    """`plaintext` None: must not open."""
    return {
        "name": name,
        "form": form,
        "key": key.hex(),
        "place": place,
        "plaintext_sha256": None if plaintext is None else hashlib.sha256(plaintext).hexdigest(),
        "sealed": base64.b64encode(sealed).decode(),
    }


def told(place: Context) -> dict[str, object]:
    facts = {field.name: getattr(place, field.name) for field in dataclasses.fields(place)}
    return {name: value.hex() if isinstance(value, bytes) else int(value) for name, value in facts.items()}


def good() -> Iterator[dict[str, object]]:
    for size in SIZES:
        key, plaintext = SEED.randbytes(32), SEED.randbytes(size)
        place = context(SEED.choice([Kind.ADAPTER, Kind.BASIS]))
        yield vector(f"object of {size} bytes", "object", key, told(place), plaintext, seal(key, place, plaintext))
    for kind in Kind:
        key, place = SEED.randbytes(32), context(kind)
        if kind is not Kind.MESSAGE:
            yield vector(f"body of kind {kind}", "body", key, told(place), b"hello", seal_body(key, place, b"hello"))
    for length in (0, 1, 33, 1024):
        key, free = SEED.randbytes(32), SEED.randbytes(length)
        sealed = seal_message(key, free, b"a cohort")
        yield vector(f"message with {length} bytes of context", "message", key, free.hex(), b"a cohort", sealed)


def bad() -> Iterator[dict[str, object]]:
    key, place = SEED.randbytes(32), context(Kind.ADAPTER)
    sealed = seal(key, place, b"p" * 512)
    long = seal(key, place, b"p" * 16400)

    def flipped(at: int) -> bytes:
        return sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]

    places = (0, 3, 4, 5, 6, 7, 8, 23, 24, 40, 43, 44, 45, 46, 47, 48, 49, 50, 66, 68, HEADER - 1)
    for at in (
        *places,
        HEADER,
        HEADER + 23,
        HEADER + 24,
        HEADER + 55,
        HEADER + BODY,
        len(sealed) - 16,
        len(sealed) - 1,
    ):
        yield vector(f"bit flipped at {at}", "object", key, told(place), None, flipped(at))
    for length in (0, 7, 47, HEADER - 1, HEADER, HEADER + 55, HEADER + 56, HEADER + 71, len(sealed) - 1):
        yield vector(f"cut to {length} bytes", "object", key, told(place), None, sealed[:length])
    yield vector("a byte too many", "object", key, told(place), None, sealed + b"\0")
    yield vector("last chunk missing", "object", key, told(place), None, long[: HEADER + BODY + 16400])
    yield vector("first chunk missing", "object", key, told(place), None, long[: HEADER + BODY] + long[-32:])
    yield vector("another key", "object", SEED.randbytes(32), told(place), None, sealed)
    changes: dict[str, Callable[[], object]] = {
        "kind": lambda: Kind.REPORT,
        "tenant": lambda: SEED.randbytes(16),
        "subject": lambda: SEED.randbytes(16),
        "key_id": lambda: SEED.randbytes(16),
        "generation": lambda: 7,
        "object_id": lambda: SEED.randbytes(16),
        "version": lambda: 7,
        "run": lambda: 7,
        "epoch": lambda: 7,
        "base": lambda: SEED.randbytes(32),
        "basis": lambda: SEED.randbytes(32),
        "watermark": lambda: 7,
    }
    body = seal_body(key, place, b"hello")
    for name, change in changes.items():
        other = dataclasses.replace(place, **{name: change()})
        yield vector(f"another {name}", "object", key, told(other), None, sealed)
        yield vector(f"body with another {name}", "body", key, told(other), None, body)
    message = seal_message(key, b"run 1 epoch 2", b"a cohort")
    yield vector("message with another context", "message", key, b"run 1 epoch 3".hex(), None, message)
    yield vector("message as an object", "object", key, told(place), None, message)


def wrapped() -> Iterator[dict[str, object]]:
    for number in range(4):
        kek, key = SEED.randbytes(32), SEED.randbytes(32)
        ring = KeyRing(Path("nowhere"), FixedKeys({number + 1: kek}), bytes(32), lambda: 0.0)
        place = KeyPlace(SEED.randbytes(16), SEED.randbytes(16), SEED.randbytes(16), number + 1)
        facts = {name: getattr(place, name).hex() for name in ("tenant", "subject", "key_id")}
        facts = {**facts, "generation": place.generation, "epoch": number + 1}
        sealed = ring.wrap(key, place)
        yield vector(f"wrapped key {number}", "wrapped", kek, facts, key, sealed)
        yield vector(f"wrapped key {number} of another", "wrapped", kek, {**facts, "subject": "00" * 16}, None, sealed)


def more() -> Iterator[dict[str, object]]:
    """The second set: every kind, chunk borders, each part of salt, commitment and tag, splices of two objects."""
    kinds = [kind for kind in Kind if kind is not Kind.MESSAGE]
    for number, size in enumerate((2, 31, 32, 33, 255, 256, 3000, 16383, 16386, 32767, 32768, 40000)):
        key, place, plaintext = SEED.randbytes(32), context(kinds[number % len(kinds)]), SEED.randbytes(size)
        sealed = seal(key, place, plaintext)
        yield vector(f"second set: object of {size} bytes", "object", key, told(place), plaintext, sealed)
    for kind in kinds:
        for size in (0, 100):
            key, place, plaintext = SEED.randbytes(32), context(kind), SEED.randbytes(size)
            body = seal_body(key, place, plaintext)
            yield vector(f"second set: body of kind {kind}, {size} bytes", "body", key, told(place), plaintext, body)
    key, place = SEED.randbytes(32), context(Kind.EVENT)
    one, two = seal_body(key, place, b"p" * 40), seal_body(key, place, b"q" * 40)
    for at in (*range(0, BODY, 2), *range(len(one) - 16, len(one))):
        changed = one[:at] + bytes([one[at] ^ 0x80]) + one[at + 1 :]
        yield vector(f"second set: high bit flipped at {at} of a body", "body", key, told(place), None, changed)
    for at in (1, 12, 24, 25, 40, 56, 57, 80, 96):
        name = f"second set: two bodies of one place spliced at {at}"
        yield vector(name, "body", key, told(place), None, one[:at] + two[at:])
    for length in (2, 16, 255, 1023):
        key, free = SEED.randbytes(32), SEED.randbytes(length)
        sealed = seal_message(key, free, b"another cohort")
        name = f"second set: message with {length} bytes of context"
        yield vector(name, "message", key, free.hex(), b"another cohort", sealed)
        yield vector(f"{name}, reversed", "message", key, free[::-1].hex(), None, sealed)
        yield vector(f"{name}, cut", "message", key, free.hex(), None, sealed[:-1])
    for at in range(0, 65, 8):
        kek, secret = SEED.randbytes(32), SEED.randbytes(32)
        ring = KeyRing(Path("nowhere"), FixedKeys({7: kek}), bytes(32), lambda: 0.0)
        where = KeyPlace(SEED.randbytes(16), SEED.randbytes(16), SEED.randbytes(16), 3)
        facts = {name: getattr(where, name).hex() for name in ("tenant", "subject", "key_id")}
        facts = {**facts, "generation": 3, "epoch": 7}
        sealed = ring.wrap(secret, where)
        yield vector(f"second set: wrapped key for flip {at}", "wrapped", kek, facts, secret, sealed)
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        yield vector(f"second set: wrapped key flipped at {at}", "wrapped", kek, facts, None, changed)


if __name__ == "__main__":
    path = Path(__file__).with_name("vectors.json")
    kept = json.loads(path.read_text()) if path.exists() else []
    names = {each["name"] for each in kept}
    fresh = [each for each in (*good(), *bad(), *wrapped(), *more()) if each["name"] not in names]
    path.write_text("[\n" + ",\n".join(json.dumps(each) for each in (*kept, *fresh)) + "\n]\n")
