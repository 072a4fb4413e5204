import inspect
import pickle

import pytest

import storage
from storage import EventKind, FinishedRun, StorageError, errors, key_errors
from storage.states import TRANSITIONS, BasisState, EpochState, RunState, UserState, VersionState, sources

CLASSES = [
    each
    for module in (errors, key_errors)
    for _, each in inspect.getmembers(module, inspect.isclass)
    if issubclass(each, StorageError) and each.__module__ == module.__name__
]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_survives_pickling_and_says_something(kind):
    count = 0 if kind is StorageError else len(inspect.signature(kind.__init__).parameters) - 1
    error = kind(*range(1, count + 1))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is kind
    assert (again.args, str(again), vars(again)) == (error.args, str(error), vars(error))
    assert count == 0 or len(str(error)) > 10


def test_every_error_and_every_public_name_is_exported():
    public = {kind.__name__ for kind in CLASSES}
    assert public <= set(storage.__all__)
    assert all(hasattr(storage, name) for name in storage.__all__)


def test_the_transition_table_names_every_state():
    states = {state for kind in (UserState, RunState, VersionState, BasisState, EpochState) for state in kind}
    assert set(TRANSITIONS) == states
    assert {type(target) for state, targets in TRANSITIONS.items() for target in targets if type(target) is type(state)}
    assert all(type(target) is type(state) for state, targets in TRANSITIONS.items() for target in targets)


def test_what_ended_stays_ended():
    for state in (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, VersionState.REJECTED, UserState.FORGOTTEN):
        assert TRANSITIONS[state] == frozenset()
    assert sources(VersionState.CURRENT) == (VersionState.CANDIDATE, VersionState.RETIRED)


def test_no_content_shows_in_a_repr(world):
    event = world.event("alice@example.com", "a secret text", source="the source", id="the id")
    [recorded] = world.record(event)
    made = FinishedRun(b"adapter bytes", True, "code", "reason", "{}", "base", "basis", 1)
    world.record(world.consent("alice@example.com"))
    world.finished(recorded.user, b"adapter bytes")
    shown = " ".join(
        map(
            repr,
            (
                event,
                recorded,
                made,
                world.store.events(recorded.user),
                world.store.current_adapter(recorded.user),
                world.store.user(world.tenant, "alice@example.com"),
            ),
        )
    )
    for secret in ("alice", "secret", "adapter bytes", "the source", "the id"):
        assert secret not in shown
    assert EventKind.EXAMPLE.value in shown
