"""Residents: the adapters of many users in one table, each in the next batch as soon as it is put.

Theory of operation. A key stands for a seat: a place in the table of vectors and, for a low-rank adapter, one in the
bank of its rank. `put` fills places that nobody reads yet and then lets the key stand for them, in one step; so a
reader finds the old row or the new one, whole. Places that a key no longer stands for are zeroed, and given to others
only when every batch that was being gathered at that moment is done. Readers do not wait for one another, nor for a
writer's copying; the lock is held for a look at the seats alone.
"""

import threading
from collections import deque
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from torch import Tensor

from .adapter import Adapter
from .bank import NOBODY, Bank
from .basis import Basis
from .errors import InvalidSetting, NotResident, ResidentsFull, WrongShape
from .lowrank import Layout, LowRankAdapter
from .rows import Change, Changes
from .users import check_users

Key = TypeVar("Key", bound=Hashable)

LOW_RANK_FIRST = 64
"""Low-rank adapters of a rank that there is room for at first."""


@dataclass(frozen=True, slots=True)
class Worn:
    """What the rows of one batch wear, as `Attachment.use` takes it: a copy that nobody writes to any more.

    vectors: (rows, d), zeros where a row is generic. `basis` is the fingerprint of the Basis it belongs to.
    """

    basis: str
    vectors: Tensor = field(repr=False)
    changes: Changes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class _Seat:
    vector: int = NOBODY
    rank: int | None = None
    change: int = NOBODY


_EMPTY = _Seat()


class Residents(Generic[Key]):
    """The adapters in memory for one Basis, by keys of the caller's own, such as (user, version, digest).

    `capacity` is how many there is room for at once; it grows up to `most`. Thread-safe.
    """

    def __init__(self, basis: Basis, capacity: int = 1_024, *, most: int | None = None, device: str = "cpu") -> None:
        """Raises InvalidSetting."""
        if capacity < 1:
            raise InvalidSetting("capacity", "1 or more")
        if most is not None and most < capacity:
            raise InvalidSetting("most", "at least the capacity")
        self.basis, self.most = basis, most
        self._device = torch.device(device)
        self._vectors = Bank(basis.spec.dimensions, capacity, self._device)
        self._banks: dict[int, tuple[Bank, Layout]] = {}  # by rank
        self._seats: dict[Key, _Seat] = {}
        self._lock = threading.Lock()
        self._reads = 0
        self._reading: set[int] = set()
        self._left: deque[tuple[int, _Seat]] = deque()  # after which read a seat was left

    def __len__(self) -> int:
        return len(self._seats)

    def __contains__(self, key: Key) -> bool:
        return key in self._seats

    @property
    def size_bytes(self) -> int:
        """What the table and the banks reserve."""
        with self._lock:
            return self._vectors.size_bytes + sum(bank.size_bytes for bank, _ in self._banks.values())

    def put(self, key: Key, adapter: Adapter | LowRankAdapter) -> None:
        """Let `key` stand for `adapter` from the next batch on, whatever it stood for before.

        Raises WrongBaseModel, WrongBasis or WrongShape where it does not belong to the Basis, and ResidentsFull.
        """
        check_users([adapter], self.basis)
        if adapter.vector.shape != self.basis.prior_mean.shape:
            raise WrongShape("vector", tuple(self.basis.prior_mean.shape), tuple(adapter.vector.shape))
        with self._lock:
            if self.most is not None and key not in self._seats and len(self._seats) >= self.most:
                raise ResidentsFull(self.most)
            seat = self._take(adapter)
        left: _Seat | None = seat
        try:
            self._fill(seat, adapter)
            left = self._stand(key, seat)
        finally:
            self._leave(left)

    def drop(self, key: Key) -> bool:
        """Whether `key` stood for an adapter; from the next batch on it stands for none, and its numbers are zeroed."""
        with self._lock:
            left = self._seats.pop(key, None)
        self._leave(left)
        return left is not None

    def clear(self) -> None:
        """Drop all, as after a gap in what the host was told of revocations."""
        with self._lock:
            left, self._seats = list(self._seats.values()), {}
        for seat in left:
            self._leave(seat)

    def rows(self, keys: Sequence[Key | None]) -> Worn:
        """One row for each key, for `live.use`; None is the generic model. Raises NotResident."""
        with self._read(keys) as seats:
            vectors = self._vectors.gather([seat.vector for seat in seats])
            return Worn(self.basis.fingerprint, vectors, self._changes(seats))

    @contextmanager
    def _read(self, keys: Sequence[Key | None]) -> Iterator[list[_Seat]]:
        """The seats of `keys`; inside the `with` no place of theirs is zeroed or given to another."""
        with self._lock:
            found = [_EMPTY if key is None else self._seats.get(key) for key in keys]
            self._reads += 1
            read = self._reads
            self._reading.add(read)
        try:
            missing = tuple(at for at, seat in enumerate(found) if seat is None)
            if missing:
                raise NotResident(missing)
            yield [seat for seat in found if seat is not None]
        finally:
            with self._lock:
                self._reading.discard(read)
                self._sweep()

    def _take(self, adapter: Adapter | LowRankAdapter) -> _Seat:
        vector = self._vectors.take()
        if isinstance(adapter, Adapter):
            return _Seat(vector)
        held = self._banks.get(adapter.rank)
        if held is None:
            layout = Layout.of(self.basis, adapter.rank, float(adapter.rank))
            held = self._banks[adapter.rank] = (Bank(layout.numbers, LOW_RANK_FIRST, self._device), layout)
        return _Seat(vector, adapter.rank, held[0].take())

    def _fill(self, seat: _Seat, adapter: Adapter | LowRankAdapter) -> None:
        self._vectors.row(seat.vector)[0].copy_(adapter.vector)
        if seat.rank is None or isinstance(adapter, Adapter):
            return
        bank, layout = self._banks[seat.rank]
        parts = layout.parts(bank.row(seat.change))
        for name in adapter.targets:
            parts[f"A.{name}"][0].copy_(adapter.tensors[f"A.{name}"])
            torch.mul(adapter.tensors[f"B.{name}"].to(self._device), adapter.scale, out=parts[f"B.{name}"][0])

    def _stand(self, key: Key, seat: _Seat) -> _Seat | None:
        """Let `key` stand for `seat`; the seat it stood for before."""
        with self._lock:
            left = self._seats.get(key)
            if left is None and self.most is not None and len(self._seats) >= self.most:  # others came first
                raise ResidentsFull(self.most)
            self._seats[key] = seat
            return left

    def _leave(self, seat: _Seat | None) -> None:
        """No key stands for `seat` any more."""
        if seat is not None:
            with self._lock:
                self._left.append((self._reads, seat))
                self._sweep()

    def _sweep(self) -> None:
        """Zero the seats that no batch can still be reading. A GPU zeroes after what was asked of it before."""
        oldest = min(self._reading, default=None)
        while self._left and (oldest is None or self._left[0][0] < oldest):
            _, seat = self._left.popleft()
            self._vectors.give(seat.vector)
            if seat.rank is not None:
                self._banks[seat.rank][0].give(seat.change)

    def _changes(self, seats: Sequence[_Seat]) -> Changes | None:
        ranks = {seat.rank for seat in seats if seat.rank is not None}
        if not ranks:
            return None
        if len(ranks) == 1:
            (rank,) = ranks
            return self._gathered(rank, [seat.change for seat in seats])
        return self._padded(seats, ranks)

    def _gathered(self, rank: int, places: Sequence[int]) -> dict[str, Change]:
        """All layers in one copy: a CPU that asks for memory layer by layer gives it back each time."""
        bank, layout = self._banks[rank]
        parts = layout.parts(bank.gather(places))
        return {name: Change(parts[f"A.{name}"], parts[f"B.{name}"]) for name in layout.targets}

    def _padded(self, seats: Sequence[_Seat], ranks: set[int]) -> Changes:
        """Rows of several ranks as rows of the largest: what a row has no rank for is zeros."""
        rank, found = max(ranks), dict[str, Change]()
        for each in ranks:
            rows = [at for at, seat in enumerate(seats) if seat.rank == each]
            for name, part in self._gathered(each, [seats[at].change for at in rows]).items():
                if name not in found:
                    A = torch.zeros(len(seats), rank, part.A.shape[2], device=self._device)
                    found[name] = Change(A, torch.zeros(len(seats), part.B.shape[1], rank, device=self._device))
                found[name].A[rows, :each] = part.A
                found[name].B[rows, :, :each] = part.B
        return found
