"""Population training at a Trainer: the shards that the spool holds, the library's training, and its checkpoints.

One process or several train; each reads the shards for itself, one at a time, and only the first writes.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import plora
from daemon.calibrating import learn
from daemon.clock import monotonic
from daemon.errors import DaemonError
from daemon.messages import BasisProgress, BasisRequest, encode_request
from daemon.spool import Spool
from plora.checkpoints import Checkpoint, dumps_checkpoint, loads_checkpoint
from plora.errors import MalformedCheckpoint, WrongCheckpoint
from plora.links import Link
from plora.peers import Alone, Peers

CHECKPOINT = "checkpoint"


class ShardsGone(DaemonError):
    """A shard that was there is not there any more."""

    def __str__(self) -> str:
        return "a shard of the population is gone: send it again"


@dataclass(frozen=True, slots=True)
class Made:
    """A trained Basis as bytes, and a JSON document of how training went."""

    content: bytes = field(repr=False)
    report: str


class Crowd:
    """The users of a spooled population; each `iter` unseals its shards anew, one at a time."""

    def __init__(self, spool: Spool, request: BasisRequest) -> None:
        self._spool, self._request = spool, request

    def __iter__(self) -> Iterator[list[plora.Example]]:
        """Raises ShardsGone."""
        for index, name in enumerate(self._request.shards):
            shard = self._spool.shard(self._request.basis, index, name)
            if shard is None:
                raise ShardsGone
            for user in shard:
                yield [plora.Example(text, target) for text, target in user]

    def missing(self) -> tuple[int, ...]:
        """The places of the shards that must be sent first."""
        held = self._spool.shard
        named = enumerate(self._request.shards)
        return tuple(index for index, name in named if held(self._request.basis, index, name) is None)


def train(base: plora.BaseModel, spool: Spool, request: BasisRequest, peers: Peers | None = None) -> Made:
    """Train on the spooled population, from its checkpoint on if there is one. Raises ShardsGone or a PLoRAError."""
    together = peers or Alone()
    settings, crowd = population_settings(request, together.size), Crowd(spool, request)
    told = _Told(spool, request.basis)
    identity = identity_of(request)

    def keep(checkpoint: Checkpoint) -> None:
        spool.write(request.basis, CHECKPOINT, identity, dumps_checkpoint(checkpoint))

    first = together.rank == 0

    def run(resume: Checkpoint | None) -> plora.Population:
        return plora.train_population(
            base,
            crowd,
            settings,
            told if first else None,
            on_checkpoint=keep if first else None,
            resume=resume,
            peers=together,
        )

    try:
        trained = run(_checkpoint(spool, request.basis, identity))
    except (WrongCheckpoint, MalformedCheckpoint):
        trained = run(None)
    calibration = learn(base, trained.basis, crowd) if first else plora.Calibration()
    return Made(plora.dumps(trained.basis), json.dumps(_report(trained, calibration)))


def identity_of(request: BasisRequest) -> str:
    """What a checkpoint belongs to: population and choices, whichever attempt it is."""
    return hashlib.sha256(encode_request(replace(request, epoch=0))).hexdigest()


def population_settings(request: BasisRequest, peers: int = 1) -> plora.PopulationSettings:
    """What the request chooses; a step has at least one micro-batch for every peer."""
    chosen = {
        "dimensions": request.dimensions,
        "rank": request.rank,
        "epochs": request.epochs,
        "shared_rate": request.learning_rate,
        "accumulate": request.accumulate or peers,
        "patience": request.patience,
        "held_out": request.held_out,
        "window": request.window,
        "link": Link(request.link),
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    return replace(plora.PopulationSettings(), **given)  # type: ignore[arg-type]


def _checkpoint(spool: Spool, basis: str, identity: str) -> Checkpoint | None:
    content = spool.read(basis, CHECKPOINT, identity)
    return None if content is None else loads_checkpoint(content)


def _report(trained: plora.Population, calibration: plora.Calibration) -> dict[str, object]:
    """Losses by epoch; `held_out` only where examples were kept aside, `calibration` where one was learnt."""
    found: dict[str, object] = {"loss": [round(loss, 6) for loss in trained.history]}
    if trained.held_out:
        found["held_out"] = [round(loss, 6) for loss in trained.held_out]
    if calibration.answers:
        found["calibration"] = {"temperature": round(calibration.temperature, 6), "answers": calibration.answers}
    return found | {"labels": len(trained.basis.labels), "users": len(trained.vectors)}


class _Told:
    """Turns the library's progress into what the daemon is told, with the pace since the last time."""

    def __init__(self, spool: Spool, basis: str, now: Callable[[], float] = monotonic) -> None:
        self._spool, self._basis, self._now = spool, basis, now
        self._at, self._examples, self._began = now(), 0, False
        self._held_out: float | None = None

    def __call__(self, progress: plora.Progress) -> None:
        now = self._now()
        learned = progress.examples - self._examples if self._began else 0  # what a checkpoint brought took no time
        pace = learned / max(1e-6, now - self._at)
        self._at, self._examples, self._began = now, progress.examples, True
        self._held_out = progress.held_out if progress.held_out is not None else self._held_out
        told = BasisProgress(
            progress.epoch, progress.epochs, progress.loss, self._held_out, progress.examples, round(pace, 3)
        )
        self._spool.tell(self._basis, told)
