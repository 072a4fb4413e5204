"""A key ring in a directory that is laid out as Kubernetes mounts a Secret."""

import os
from datetime import UTC, datetime

import pytest

from storage import KeyFilePermissions, KeyRing, KeyRingMissing, KeyRingReadOnly, Store, read_key
from storage.keys import KeyPlace
from storage.transport_keys import TransportKeys

NOW = datetime(2031, 5, 6, tzinfo=UTC)
PLACE = KeyPlace(b"t" * 16, b"u" * 16, b"k" * 16, 1)
VERSION = "..2031_05_06_07_08_09.1234567890"


@pytest.fixture
def made(tmp_path):
    ring = KeyRing.create(tmp_path / "made")
    ring.signer()
    ring.ensure_token("host")
    return ring


@pytest.fixture
def secret(tmp_path, made):
    """What kubelet makes of the files: a version directory, `..data`, and a link for each."""
    mount = tmp_path / "keys"
    (mount / VERSION).mkdir(parents=True)
    (mount / "..data").symlink_to(VERSION)
    for file in made.directory.iterdir():
        (mount / VERSION / file.name).write_bytes(file.read_bytes())
        (mount / VERSION / file.name).chmod(0o440)
        (mount / file.name).symlink_to(f"..data/{file.name}")
    mount.chmod(0o755)
    return mount


def test_a_mounted_ring_reads_as_the_one_it_was_made_from(made, secret):
    ring = KeyRing.open(secret)
    assert ring.read_only
    assert ring.unwrap(made.wrap(b"d" * 32, PLACE), PLACE) == b"d" * 32
    assert (ring.audit_key(), ring.transport_key()) == (made.audit_key(), made.transport_key())
    assert ring.signer().public == made.signer().public
    assert ring.ensure_token("host") == made.ensure_token("host")
    assert TransportKeys(secret / "transport.key").newest() == made.transport.newest()


def test_whatever_would_change_it_is_refused_before_anything_is_done(secret, tmp_path):
    ring = KeyRing.open(secret)
    for change in (ring.new_epoch, ring.transport.rotate, lambda: ring.ensure_token("another")):
        with pytest.raises(KeyRingReadOnly, match="keys next"):
            change()
    with Store.open(f"sqlite:///{tmp_path}/data/p.db", keyring=ring, blobs=tmp_path / "data/blobs", now=NOW) as store:
        with pytest.raises(KeyRingReadOnly):
            store.rotate_keys(NOW)
        with pytest.raises(KeyRingReadOnly):
            store.roll_epoch(NOW)
        assert [each.epoch for each in store.keys_status().epochs] == [1]


def put(secret, made, version: str) -> None:
    """Swap in what kubelet makes of the ring's files as they are now."""
    (secret / version).mkdir()
    for file in made.directory.iterdir():
        (secret / version / file.name).write_bytes(file.read_bytes())
        (secret / version / file.name).chmod(0o440)
    (secret / "..tmp").symlink_to(version)
    (secret / "..tmp").rename(secret / "..data")
    for link in (each for each in secret.iterdir() if not each.name.startswith("..")):
        link.unlink()
    for file in made.directory.iterdir():
        (secret / file.name).symlink_to(f"..data/{file.name}")


def test_an_epoch_that_the_operator_adds_is_rolled_to_and_the_old_one_goes_when_he_takes_it_out(made, secret, tmp_path):
    place = {"blobs": tmp_path / "data/blobs", "now": NOW}
    with Store.open(f"sqlite:///{tmp_path}/data/p.db", keyring=KeyRing.open(secret), **place) as store:
        tenant = store.ensure_tenant("acme", NOW)
        made.new_epoch()
        put(secret, made, "..second")
        rolled = store.roll_epoch(NOW)
        assert (rolled.epoch, rolled.rewrapped, rolled.destroyed, rolled.pending) == (2, 1, (), (1,))
        with pytest.raises(KeyRingReadOnly):
            store.rotate_keys(NOW)
        made.destroy_epoch(1)
        put(secret, made, "..third")
        assert store.finish_roll(NOW) == (1,)
        assert [each.state.value for each in store.keys_status().epochs] == ["destroyed", "primary"]
    with Store.open(f"sqlite:///{tmp_path}/data/p.db", keyring=KeyRing.open(secret), **place) as store:
        assert store.tenant("acme") == tenant


def test_a_new_version_of_the_secret_counts(made, secret):
    ring = KeyRing.open(secret)
    number = made.transport.rotate()
    name = f"transport-{number:010d}.key"
    put(secret, made, "..newer")
    assert (secret / name).exists()
    assert ring.transport.newest() == made.transport.newest()


@pytest.mark.parametrize("mode", [0o444, 0o460, 0o600 | 0o002])
def test_a_file_that_others_reach_is_refused(secret, mode):
    (secret / VERSION / "audit.key").chmod(mode)
    with pytest.raises(KeyFilePermissions, match=r"audit\.key has mode"):
        read_key(secret / "audit.key")


def test_a_directory_that_others_write_is_refused(secret):
    secret.chmod(0o777)
    with pytest.raises(KeyFilePermissions, match="can be written by others"):
        KeyRing.open(secret)


def test_a_link_out_of_the_directory_is_refused(secret, made):
    (secret / "audit.key").unlink()
    (secret / "audit.key").symlink_to(made.directory / "audit.key")
    with pytest.raises(KeyFilePermissions, match="leads out of its directory"):
        read_key(secret / "audit.key")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a file away")
def test_a_file_of_somebody_else_is_refused(secret):
    os.chown(secret / VERSION / "audit.key", 12345, 0)
    with pytest.raises(KeyFilePermissions, match="belongs to user 12345"):
        read_key(secret / "audit.key")


def test_a_key_that_the_secret_lacks_is_named(secret):
    (secret / VERSION / "audit.key").unlink()
    with pytest.raises(KeyRingMissing, match=r"audit\.key"):
        KeyRing.open(secret)
