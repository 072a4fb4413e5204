"""Statistics are as private as the examples: no route gives them out, no log names them, and they are counted."""

import base64

import pytest

from storage import FinishedRun

BASIS = "ba515"
SECRET = b"as private as the examples they were summed from, and longer than a header"


@pytest.fixture
def ann(world, event):
    """A user whose current version has statistics; the internal id."""
    world.give_basis(b"PLB1 not really a basis", BASIS)
    assert world.post(event(1, type="plora.consent.v1", data={"granted": True})).status_code == 202
    store, now = world.service.parts.store, world.service.parts.now()
    user = world.internal_id("ann")
    store.open_runs([(user, BASIS, "a test")], now)
    (run,) = store.claim_runs("test", 1, 60, now)
    made = FinishedRun(b"adapter one", True, "beats_generic", "a reason", '{"gain": 0.5}', "ba5e", BASIS, 1, SECRET)
    store.finish_runs([(run.id, run.epoch, made)], now)
    return user


def test_no_answer_and_no_file_holds_statistics(world, ann):
    forms = [SECRET, base64.b64encode(SECRET), SECRET.hex().encode()]
    windows = {form[at : at + 16] for form in forms for at in range(len(form) - 15)}
    answers = [
        world.client.get(path, headers=world.token(name)).content
        for path in ("/v1/users/ann", "/v1/users/ann/adapter", "/v1/bases", "/metrics", "/openapi.json")
        for name in ("host", "operator")
    ]
    assert answers[2] == b"adapter one"
    held = b"".join([*answers, world.log.getvalue().encode(), *(path.read_bytes() for path in world.files())])
    assert not [window for window in windows if window in held]


def test_what_is_sealed_and_unsealed_together_is_counted(world, ann):
    store, metrics = world.service.parts.store, world.service.parts.metrics
    store.materials([ann, "0" * 32])

    def count(name: str, kind: str, outcome: str = "ok") -> float:
        return metrics.registry.get_sample_value(f"plora_{name}_total", {"kind": kind, "outcome": outcome})

    assert [count("seal", kind) for kind in ("adapter", "statistics")] == [1, 1]
    assert [count("unseal", kind) for kind in ("event", "adapter", "statistics")] == [1, 1, 1]
    assert count("unseal", "material", "unreadable") == 0
