"""A population on its way to a Trainer: cut into shards of bounded size, each with a name that only its content gives.

A name is a keyed digest, so that whoever sees names learns nothing of the texts; the same shard has the same name in
every attempt, which is how a Trainer knows what it still holds.
"""

import hashlib
import hmac
from collections.abc import Iterable, Iterator
from functools import cache

from pydantic import TypeAdapter

from daemon.messages import Labelled
from storage.sealing import derive

Shard = tuple[tuple[Labelled, ...], ...]
"""Several users' examples."""


def cut(users: Iterable[tuple[Labelled, ...]], shard_bytes: int) -> Iterator[Shard]:
    """`users` in shards that end once they hold `shard_bytes`; a user is never divided."""
    held: list[tuple[Labelled, ...]] = []
    size = 0
    for user in users:
        held.append(user)
        size += sum(len(text.encode()) + len(target.encode()) for text, target in user)
        if size >= shard_bytes:
            yield tuple(held)
            held, size = [], 0
    if held:
        yield tuple(held)


def name_of(key: bytes, shard: Shard) -> str:
    """The shard's name, for holders of the transport key."""
    return hmac.new(derive(key, b"shard"), encode_shard(shard), hashlib.sha256).hexdigest()[:32]


def encode_shard(shard: Shard) -> bytes:
    """The shard as JSON."""
    return _shards().dump_json(shard)


def decode_shard(document: bytes) -> Shard:
    """The reverse. Raises ValueError, whose text may quote the document: let it go no further."""
    return _shards().validate_json(document)


@cache
def _shards() -> TypeAdapter[Shard]:
    return TypeAdapter(Shard)
