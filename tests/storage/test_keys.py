import os

import pytest

from storage import (
    BadRecord,
    KeyFilePermissions,
    KeyRing,
    KeyRingExists,
    KeyRingMissing,
    KeysBesideData,
    Store,
    Unreadable,
    WrongKeyRing,
    read_key,
)
from storage.keys import KeyPlace

PLACE = KeyPlace(b"t" * 16, b"u" * 16, b"k" * 16, 1)


@pytest.fixture
def ring(tmp_path):
    return KeyRing.create(tmp_path / "keys")


def test_a_new_ring_is_ours_alone(ring):
    assert ring.directory.stat().st_mode & 0o777 == 0o700
    names = sorted(path.name for path in ring.directory.iterdir())
    assert names == ["audit.key", "kek-0000000001.key", "transport.key"]
    assert {path.stat().st_mode & 0o777 for path in ring.directory.iterdir()} == {0o600}
    assert len({path.read_bytes() for path in ring.directory.iterdir()}) == 3


def test_an_opened_ring_is_the_one_that_was_made(ring):
    wrapped = ring.wrap(b"d" * 32, PLACE)
    again = KeyRing.open(ring.directory)
    assert again.unwrap(wrapped, PLACE) == b"d" * 32
    assert (again.transport_key(), again.audit_key()) == (ring.transport_key(), ring.audit_key())
    assert read_key(ring.transport_path) == ring.transport_key()


def test_a_ring_is_never_made_over_another(ring):
    with pytest.raises(KeyRingExists):
        KeyRing.create(ring.directory)


def test_making_a_ring_goes_on_after_a_crash(ring):
    kept = ring.transport_key()
    (ring.directory / "kek-0000000001.key").unlink()
    (ring.directory / "kek-0000000001.key.00.new").write_bytes(b"half")
    with pytest.raises(KeyRingMissing):
        KeyRing.open(ring.directory)
    again = KeyRing.create(ring.directory)
    assert again.transport_key() == kept
    assert not list(ring.directory.glob("*.new"))


@pytest.mark.parametrize("missing", ["", "audit.key", "transport.key", "kek-0000000001.key"])
def test_a_missing_file_is_named(ring, missing, tmp_path):
    if missing:
        (ring.directory / missing).unlink()
    with pytest.raises(KeyRingMissing, match=missing or "nowhere"):
        KeyRing.open(ring.directory if missing else tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["kek-0000000001.key", "audit.key", "transport.key"])
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o602])
def test_a_file_that_others_can_reach_is_refused(ring, name, mode):
    (ring.directory / name).chmod(mode)
    with pytest.raises(KeyFilePermissions, match=f"{mode:04o}"):
        KeyRing.open(ring.directory)


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o770])
def test_a_directory_that_others_can_reach_is_refused(ring, mode):
    ring.directory.chmod(mode)
    with pytest.raises(KeyFilePermissions):
        KeyRing.open(ring.directory)


def test_symbolic_links_are_refused(ring, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(ring.directory)
    with pytest.raises(KeyFilePermissions, match="symbolic link"):
        KeyRing.open(link)
    key = ring.directory / "audit.key"
    key.rename(tmp_path / "elsewhere")
    key.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFilePermissions, match="symbolic link"):
        KeyRing.open(ring.directory)


def test_what_is_no_file_is_refused(ring):
    key = ring.directory / "audit.key"
    key.unlink()
    os.mkfifo(key, 0o600)
    with pytest.raises(KeyFilePermissions, match="regular"):
        KeyRing.open(ring.directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_owner_is_refused(ring):
    os.chown(ring.directory / "audit.key", 12345, -1)
    with pytest.raises(KeyFilePermissions, match="12345"):
        KeyRing.open(ring.directory)


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_key_of_another_length_is_refused(ring, content):
    (ring.directory / "kek-0000000001.key").write_bytes(content)
    with pytest.raises(Unreadable):
        KeyRing.open(ring.directory)


@pytest.mark.parametrize("keys", ["data/keys", "data", "data/blobs/keys"])
def test_keys_inside_the_data_directory_are_refused(tmp_path, world, keys):
    inside = KeyRing.create(tmp_path / "other" / keys)
    with pytest.raises(KeysBesideData):
        Store.open(
            f"sqlite:///{tmp_path}/other/data/plora.db",
            keyring=inside,
            blobs=tmp_path / "other/data/blobs",
            now=world.now,
        )
    assert not (tmp_path / "other/data/plora.db").exists()


def test_data_inside_the_key_directory_is_refused(tmp_path, world):
    with pytest.raises(KeysBesideData):
        Store.open(
            f"sqlite:///{tmp_path}/d/plora.db", keyring=world.ring, blobs=world.ring.directory / "blobs", now=world.now
        )


def test_another_key_ring_does_not_open_the_database(world, tmp_path):
    world.store.close()
    right, world.ring = world.ring, KeyRing.create(tmp_path / "wrong")
    with pytest.raises(WrongKeyRing, match="wrong"):
        world.open()
    world.ring = right
    world.store = world.open()


@pytest.mark.parametrize(
    "other",
    [
        KeyPlace(b"x" * 16, b"u" * 16, b"k" * 16, 1),
        KeyPlace(b"t" * 16, b"x" * 16, b"k" * 16, 1),
        KeyPlace(b"t" * 16, b"u" * 16, b"x" * 16, 1),
        KeyPlace(b"t" * 16, b"u" * 16, b"k" * 16, 2),
    ],
)
def test_a_data_key_unwraps_in_its_place_only(ring, other):
    wrapped = ring.wrap(b"d" * 32, PLACE)
    assert len(wrapped) == 65
    with pytest.raises(Unreadable):
        ring.unwrap(wrapped, other)


def test_every_byte_of_a_wrapped_key_counts(ring):
    wrapped = ring.wrap(b"d" * 32, PLACE)
    for at in range(65):
        with pytest.raises(Unreadable):
            ring.unwrap(wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :], PLACE)
    for length in (0, 4, 64):
        with pytest.raises(Unreadable):
            ring.unwrap(wrapped[:length], PLACE)


def test_an_old_epoch_reads_until_it_is_destroyed(ring):
    old = ring.wrap(b"d" * 32, PLACE)
    assert ring.new_epoch() == 2
    new = ring.wrap(b"d" * 32, PLACE)
    assert KeyRing.open(ring.directory).unwrap(old, PLACE) == ring.unwrap(new, PLACE)
    with pytest.raises(BadRecord):
        ring.destroy_epoch(2)
    ring.destroy_epoch(1)
    assert KeyRing.open(ring.directory).epochs() == ring.epochs() == (2,)
    with pytest.raises(Unreadable):
        ring.unwrap(old, PLACE)


def test_a_token_is_made_once(ring):
    token = ring.ensure_token("operator")
    assert token.startswith("plr_")
    assert len(token) > 40
    assert KeyRing.open(ring.directory).ensure_token("operator") == token
    assert ring.ensure_token("host") != token
    assert (ring.directory / "operator.token").stat().st_mode & 0o777 == 0o600
    with pytest.raises(BadRecord):
        ring.ensure_token("../evil")
    (ring.directory / "host.token").chmod(0o644)
    with pytest.raises(KeyFilePermissions):
        ring.ensure_token("host")


def test_no_key_shows_in_a_repr(ring):
    shown = repr(ring).encode()
    assert not any(path.read_bytes() in shown for path in ring.directory.iterdir())
