"""Predictions: each text answered as its user's adapter has it, or as the generic model where there is none.

Who is served what is looked up for every request, in one read: a promotion, a rollback or a forgetting shows in the
next answer, whichever daemon it was told to. Replicas hold adapters only for as long as they are named.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from daemon import clock
from daemon.arms import Arms, Chosen
from daemon.bases import BasisContents
from daemon.errors import DaemonError
from daemon.named import Recent
from daemon.predict_messages import (
    Carried,
    GenerateRequest,
    Labelled,
    Named,
    Piece,
    Prediction,
    PredictRequest,
    Row,
    Sampling,
    Turn,
)
from daemon.trainer_client import TrainerClient
from daemon.trainer_errors import TrainerLost
from storage import Served, Store, UnknownBasis, Unreadable

GENERIC = 0
"""The version that a prediction without an adapter carries."""

TRIES = 3
"""How often what serves somebody may change while they are being answered."""


class NoBasis(DaemonError):
    """The tenant has no Basis yet, so there is nothing to predict with."""

    def __init__(self, tenant: str) -> None:
        super().__init__(tenant)
        self.tenant = tenant

    def __str__(self) -> str:
        return "no basis is ready: train one first, with `python -m daemon basis train`"


@dataclass(frozen=True, slots=True)
class Asked:
    """One text, as one user or as nobody; with `taught`, what they learnt from, the answer says what moved it."""

    user: str | None = field(repr=False)
    text: str = field(repr=False)
    taught: tuple[Labelled, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Speaking:
    """Who answers: a version (0 is the generic model) on a Basis, of which user, by which arm of a rollout."""

    basis: str
    version: int
    digest: str
    user: str | None
    rollout: int | None = None
    arm: str | None = None

    @property
    def name(self) -> Named | None:
        """By what a replica knows the adapter."""
        if self.version == GENERIC or self.user is None:
            return None
        return Named(self.user, self.version, self.digest)


@dataclass(frozen=True, slots=True)
class Predicted:
    """One answer, and who gave it."""

    prediction: Prediction = field(repr=False)
    speaking: Speaking


class Predictor:
    """Answers texts for users of tenants. Thread-safe."""

    def __init__(
        self,
        store: Store,
        trainer: TrainerClient,
        contents: BasisContents,
        arms: Arms,
        *,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self._store, self._trainer, self._contents, self._arms, self._now = store, trainer, contents, arms, now
        self._recent = Recent()

    def predict(self, tenant: str, asked: Sequence[Asked]) -> list[Predicted]:
        """One answer for each, in order. Those on one Basis are one request, whoever they are of.

        Raises NoBasis, or a TrainerError.
        """
        answers: dict[int, Predicted] = {}
        lost: set[str] = set()
        for _ in range(TRIES):
            left = [at for at in range(len(asked)) if at not in answers]
            speakers = self.speakers(tenant, [asked[at].user for at in left], lost)
            by_basis: defaultdict[str, list[int]] = defaultdict(list)
            for at in left:
                by_basis[speakers[asked[at].user].basis].append(at)
            for basis, places in by_basis.items():
                rows = [(asked[at], speakers[asked[at].user]) for at in places]
                with _noting(lost):
                    answers.update(zip(places, self._ask(tenant, basis, rows), strict=True))
            if len(answers) == len(asked):
                return [answers[at] for at in range(len(asked))]
        raise TrainerLost

    def generate(
        self, tenant: str, user: str | None, prompt: str | tuple[Turn, ...], sampling: Sampling
    ) -> tuple[Speaking, Iterator[Piece]]:
        """Who writes, and the pieces of the text as they are written; close the iterator to end it.

        Raises NoBasis, or a TrainerError.
        """
        lost: set[str] = set()
        for _ in range(TRIES):
            speaking = self.speakers(tenant, [user], lost)[user]
            name = speaking.name
            with _noting(lost):
                carried = self._carried([name] if name else [])
                request = GenerateRequest(speaking.basis, prompt, name, carried, sampling)
                basis = partial(self._basis, tenant, speaking.basis)
                return speaking, self._trainer.generate(request, basis, self._content)
        raise TrainerLost

    def speakers(
        self, tenant: str, users: Sequence[str | None], lost: Collection[str] = ()
    ) -> dict[str | None, Speaking]:
        """Who answers for each user as things are now; nobody on a Basis that is `lost`. Raises NoBasis."""
        known = [user for user in users if user is not None]
        servings = self._store.serving(tenant, set(known), previous=self._arms.needs_previous(tenant))
        if servings.basis is None:
            raise NoBasis(tenant)
        generic = Speaking(servings.basis, GENERIC, "", None)
        found: dict[str | None, Speaking] = dict.fromkeys(users, generic)
        for user, serving in servings.users.items():
            chosen = self._arms.choose(tenant, serving)
            if chosen.served is not None and chosen.served.basis in lost:
                chosen = Chosen(None)
            found[user] = _speaking(serving.user, chosen, servings.basis)
        return found

    def _ask(self, tenant: str, basis: str, rows: Sequence[tuple[Asked, Speaking]]) -> list[Predicted]:
        """Raises _Gone where something that answers is gone since it was looked up: look again."""
        names = dict.fromkeys(name for _, speaking in rows if (name := speaking.name) is not None)
        request = PredictRequest(
            basis,
            tuple(Row(asked.text, speaking.name, asked.taught) for asked, speaking in rows),
            self._carried(list(names)),
        )
        answer = self._trainer.predict(request, partial(self._basis, tenant, basis), self._content)
        return [Predicted(each, who) for each, (_, who) in zip(answer.predictions, rows, strict=True)]

    def _carried(self, names: Sequence[Named]) -> tuple[Carried, ...]:
        """Adapters that replicas will hardly hold: those nobody has asked this daemon for of late."""
        return tuple(Carried(name, self._content(name)) for name in self._recent.strangers(names))

    def _content(self, name: Named) -> bytes:
        """The adapter's bytes. Raises _Gone where it is no more, after mending what can be mended."""
        try:
            stored = self._store.adapter(name.user, name.version)
        except Unreadable:
            if not self._store.mend_adapter(name.user, self._now()):  # it is the user's key that does not open
                raise
            raise _Gone from None
        if stored is None or stored.version.digest != name.digest:
            raise _Gone
        return stored.content

    def _basis(self, tenant: str, basis: str) -> bytes:
        """Raises _Gone where it was lost and another serves now."""
        try:
            return self._contents.read(tenant, basis)
        except (UnknownBasis, Unreadable):
            current = self._store.current_basis(tenant)
            if current is None or current.fingerprint == basis:
                raise
            raise _Gone(basis) from None


class _Gone(DaemonError):
    """What answers has changed since it was looked up; a Basis is named that is no more."""

    def __init__(self, basis: str | None = None) -> None:
        super().__init__(basis)
        self.basis = basis


@contextmanager
def _noting(lost: set[str]) -> Iterator[None]:
    """Look again after what changed meanwhile, which is noted where it is a Basis."""
    try:
        yield
    except _Gone as gone:
        if gone.basis is not None:
            lost.add(gone.basis)


def _speaking(user: str, chosen: Chosen, generic: str) -> Speaking:
    served = chosen.served or Served(GENERIC, "", generic)
    return Speaking(served.basis, served.version, served.digest, user, chosen.rollout, chosen.arm)
