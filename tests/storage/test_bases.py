from datetime import timedelta

import pytest

from storage import BasisState, StaleEpoch, UnknownBasis, UnknownTenant, Unreadable

CONTENT = b"basis " * 10_000


def made(world, content=CONTENT, fingerprint="f-1"):
    world.store.open_basis(world.tenant, "reviews", "low,high", world.now)
    basis = world.store.claim_basis("daemon-1", 60, world.now)
    return world.store.finish_basis(basis.id, basis.epoch, fingerprint, "base-1", content, "{}", world.now)


def test_a_basis_is_queued_claimed_finished_and_read(world):
    opened = world.store.open_basis(world.tenant, "reviews", "low,high", world.now)
    assert (opened.state, opened.labels_hint, opened.fingerprint) == (BasisState.QUEUED, "low,high", None)
    assert world.store.current_basis(world.tenant) is None
    claimed = world.store.claim_basis("daemon-1", 60, world.now)
    assert (claimed.state, claimed.epoch, claimed.owner) == (BasisState.RUNNING, 1, "daemon-1")
    assert world.store.claim_basis("daemon-2", 60, world.now) is None
    ready = world.store.finish_basis(claimed.id, 1, "f-1", "base-1", CONTENT, '{"gain": 1}', world.now)
    assert (ready.state, ready.fingerprint, ready.report) == (BasisState.READY, "f-1", '{"gain": 1}')
    assert world.store.current_basis(world.tenant) == ready == world.store.basis(ready.id)
    assert world.store.basis_content("f-1", world.tenant) == CONTENT


def test_the_newest_ready_basis_is_current(world):
    made(world, fingerprint="f-1")
    second = made(world, b"second", "f-2")
    world.store.open_basis(world.tenant, "reviews", "", world.now)
    assert world.store.current_basis(world.tenant) == second
    assert world.store.basis_content("f-1", world.tenant) == CONTENT
    assert [basis.state.value for basis in world.store.bases(world.tenant)] == ["queued", "ready", "ready"]


def test_a_lost_claim_of_a_basis_writes_nothing(world):
    world.store.open_basis(world.tenant, "reviews", "", world.now)
    first = world.store.claim_basis("one", 10, world.now)
    assert world.store.extend_basis(first.id, first.epoch, 20, world.now)
    second = world.store.claim_basis("two", 10, world.later(21))
    assert (second.id, second.epoch, second.crashes) == (first.id, 2, 1)
    assert not world.store.extend_basis(first.id, first.epoch, 20, world.now)
    with pytest.raises(StaleEpoch):
        world.store.finish_basis(first.id, first.epoch, "f", "b", CONTENT, "{}", world.now)
    with pytest.raises(StaleEpoch):
        world.store.fail_basis(first.id, first.epoch, "x", world.now)
    assert list((world.data / "blobs").iterdir()) == []


def test_a_basis_is_retried_or_failed(world):
    world.store.open_basis(world.tenant, "reviews", "", world.now)
    first = world.store.claim_basis("one", 10, world.now)
    world.store.retry_basis(first.id, first.epoch, world.now + timedelta(seconds=30), "trainer_lost", world.now)
    assert world.store.claim_basis("one", 10, world.now) is None
    again = world.store.claim_basis("one", 10, world.later(30))
    world.store.fail_basis(again.id, again.epoch, "too_few_users", world.now)
    assert world.store.basis(first.id).error_code == "too_few_users"
    assert world.store.claim_basis("one", 10, world.later(3600)) is None


def test_an_unknown_basis_is_named(world):
    with pytest.raises(UnknownBasis):
        world.store.basis_content("f-9", world.tenant)
    with pytest.raises(UnknownTenant):
        world.store.open_basis("0" * 32, "reviews", "", world.now)


def test_another_tenant_does_not_see_a_basis(world):
    made(world)
    other = world.store.ensure_tenant("other", world.now).id
    assert world.store.current_basis(other) is None
    with pytest.raises(UnknownBasis):
        world.store.basis_content("f-1", other)


@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_a_damaged_blob_is_unreadable(world, harm):
    made(world)
    [blob] = (world.data / "blobs").iterdir()
    content = blob.read_bytes()
    assert blob.stat().st_mode & 0o777 == 0o600
    if harm == "delete":
        blob.unlink()
    else:
        blob.write_bytes(content[:-1] if harm == "cut" else bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(Unreadable):
        world.store.basis_content("f-1", world.tenant)


def test_blobs_that_no_row_names_are_swept_after_a_day(world):
    made(world)
    blobs = world.data / "blobs"
    (blobs / f"{'0' * 64}.blob").write_bytes(b"orphan")
    (blobs / f"{'1' * 64}.abc.tmp").write_bytes(b"half")
    far = world.now + timedelta(days=100 * 365)
    assert world.store.sweep_blobs(world.now - timedelta(days=100 * 365)) == 0
    assert world.store.sweep_blobs(far) == 2
    assert world.store.basis_content("f-1", world.tenant) == CONTENT
