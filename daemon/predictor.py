"""Predictions: each text answered as its user's current adapter has it, or as the generic model where there is none."""

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

from daemon import clock
from daemon.bases import BasisContents
from daemon.errors import DaemonError
from daemon.messages import Prediction, PredictRequest, Row
from daemon.trainer_client import TrainerClient
from storage import Store, UnknownBasis, Unreadable, UserState

GENERIC = 0
"""The version that a prediction without an adapter carries."""

ADAPTERS_KEPT = 10_000


class NoBasis(DaemonError):
    """The tenant has no Basis yet, so there is nothing to predict with."""

    def __init__(self, tenant: str) -> None:
        super().__init__(tenant)
        self.tenant = tenant

    def __str__(self) -> str:
        return "no basis is ready: train one first, with `python -m daemon basis train`"


@dataclass(frozen=True, slots=True)
class Predicted:
    """One answer. `version` is 0 for the generic model; `known_user` says whether the user asked for has events."""

    prediction: Prediction = field(repr=False)
    version: int
    basis: str
    known_user: bool


@dataclass(frozen=True, slots=True)
class _Attached:
    """What answers for one user."""

    basis: str
    version: int
    adapter: bytes | None = field(repr=False)
    known_user: bool


class Predictor:
    """Answers rows of (user or None, text). Thread-safe."""

    def __init__(
        self,
        store: Store,
        trainer: TrainerClient,
        contents: BasisContents,
        *,
        keep: int = ADAPTERS_KEPT,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._store, self._trainer, self._contents, self._keep, self._now = store, trainer, contents, keep, now
        self._adapters: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def predict(self, tenant: str, rows: Sequence[tuple[str | None, str]]) -> list[Predicted]:
        """One answer for each row, in order. Rows of one Basis are one request, whoever they are of.

        Raises NoBasis, or a TrainerError.
        """
        users = {user for user, _ in rows}
        generic = self._generic(tenant)
        attached = {user: self._attached(tenant, user, generic) for user in users}
        by_basis: defaultdict[str, list[int]] = defaultdict(list)
        for at, (user, _) in enumerate(rows):
            by_basis[attached[user].basis].append(at)
        answers: dict[int, Prediction] = {}
        for basis, places in by_basis.items():
            asked = [Row(rows[at][1], attached[rows[at][0]].adapter) for at in places]
            try:
                found = self._ask(tenant, basis, asked)
            except (UnknownBasis, Unreadable):
                attached |= self._without(tenant, basis, {rows[at][0] for at in places})
                found = self._ask(tenant, attached[rows[places[0]][0]].basis, [Row(row.text) for row in asked])
            answers.update(zip(places, found, strict=True))
        return [_predicted(answers[at], attached[user]) for at, (user, _) in enumerate(rows)]

    def forget(self, user: str) -> None:
        """Keep nothing of a user (by internal id) whom the store has forgotten."""
        with self._lock:
            for key in [key for key in self._adapters if key[0] == user]:
                del self._adapters[key]

    def _ask(self, tenant: str, basis: str, rows: Sequence[Row]) -> Sequence[Prediction]:
        request = PredictRequest(basis, tuple(rows))
        return self._trainer.predict(request, partial(self._contents.read, tenant, basis)).predictions

    def _without(self, tenant: str, lost: str, users: Iterable[str | None]) -> dict[str | None, _Attached]:
        """These users on the Basis that serves now that another is lost. Raises Unreadable if it still is that one."""
        generic = self._generic(tenant)
        if generic.basis == lost:
            raise Unreadable(f"basis {lost}")
        return {user: replace(generic, known_user=user is not None) for user in users}

    def _generic(self, tenant: str) -> _Attached:
        basis = self._store.current_basis(tenant)
        if basis is None or basis.fingerprint is None:
            raise NoBasis(tenant)
        return _Attached(basis.fingerprint, GENERIC, None, known_user=False)

    def _attached(self, tenant: str, user: str | None, generic: _Attached) -> _Attached:
        found = self._store.user(tenant, user) if user is not None else None
        if found is None or found.state is not UserState.ACTIVE:
            return generic
        unadapted = _Attached(generic.basis, GENERIC, None, known_user=True)
        current = self._store.current_version(found.id)
        if current is None:
            return unadapted
        try:
            content = self._content(found.id, current.version)
        except Unreadable:
            return self._mended(tenant, user, found.id, generic)
        return unadapted if content is None else _Attached(current.basis, current.version, content, known_user=True)

    def _mended(self, tenant: str, user: str | None, found: str, generic: _Attached) -> _Attached:
        """By the newest version that opens, if it was the version that did not, and not the user's key."""
        if not self._store.mend_adapter(found, self._now()):
            raise Unreadable(f"the adapter of user {found}")
        return self._attached(tenant, user, generic)

    def _content(self, user: str, version: int) -> bytes | None:
        """The adapter's bytes. A version never changes, so what was read once stays right; None if just forgotten."""
        key = (user, version)
        with self._lock:
            if key in self._adapters:
                self._adapters.move_to_end(key)
                return self._adapters[key]
        stored = self._store.adapter(user, version)
        if stored is None:
            return None
        with self._lock:
            self._adapters[key] = stored.content
            while len(self._adapters) > self._keep:
                self._adapters.popitem(last=False)
        return stored.content


def _predicted(prediction: Prediction, attached: _Attached) -> Predicted:
    return Predicted(prediction, attached.version, attached.basis, attached.known_user)
