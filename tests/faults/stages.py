"""What a store does in stages, died in at a named point, and then done again. Run in a child."""

from datetime import timedelta

from storage import StorageError
from tests.faults import failpoints
from tests.faults.scenarios import rows_of
from tests.faults.stores import START, Kept, damages

USERS = ("ann", "bob", "eve")
ACTS = {
    "forget": lambda kept: kept.store.forget(kept.tenant, "ann", "tests", kept.later()),
    "rotate": lambda kept: kept.store.roll_epoch(kept.later()),
    "basis": lambda kept: kept.basis(),
    "finish": lambda kept: kept.finished("ann"),
    "ingest": lambda kept: kept.record("ann", 7, 8, 9),
    "upkeep": lambda kept: kept.store.sweep_blobs(kept.later()),
}


def prepare(folder: str) -> bool:
    kept = Kept(folder)
    for user in USERS:
        kept.record(user, 1, 2, 3)
        kept.finished(user)
        kept.record(user, 4, 5, 6)
    kept.basis()
    kept.store.close()
    return True


def die(folder: str, stage: str, point: str) -> str:
    kept = Kept(folder, at=START + timedelta(hours=1))
    failpoints.arm({point: ("kill", 1)})
    ACTS[stage](kept)
    return "lived"


def recover(folder: str, stage: str) -> list[str]:
    """What is broken: after the restart, after the same again, and for the others."""
    kept = Kept(folder, at=START + timedelta(days=1))
    found = list(damages(kept))
    try:
        ACTS[stage](kept)
    except StorageError as problem:
        found.append(f"can not be done again: {problem}")
    found += damages(kept)
    for user in USERS[1:]:
        if len(kept.store.events(kept.internal(user))) != 6 or kept.store.current_adapter(kept.internal(user)) is None:
            found.append("another user lost something")
    found += _of_ann(kept, stage)
    return found + rows_of(kept)


def _of_ann(kept: Kept, stage: str) -> list[str]:
    ann = kept.store.user(kept.tenant, "ann")
    told = [] if ann is None else kept.store.events(ann.id)
    wanted = {"forget": 0, "ingest": 9}.get(stage, 6)
    return [] if len(told) == wanted else [f"{len(told)} events instead of {wanted}"]
