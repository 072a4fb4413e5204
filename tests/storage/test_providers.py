"""Key epochs from files, Vault and KMS: one suite, each against a server that speaks the real protocol."""

from datetime import timedelta

import pytest
from moto.server import ThreadedMotoServer

from storage import KeyRing, KeyRingExists, KeysAway, KeysDenied, Store, Unreadable
from storage.keys import KeyPlace
from storage.providers.choices import KmsChoices, VaultChoices
from storage.providers.files import FileKeys
from storage.providers.kms import KmsKeys
from storage.providers.vault import VaultKeys
from tests.storage.conftest import START
from tests.storage.vault_server import Vault

PLACE = KeyPlace(b"t" * 16, b"u" * 16, b"k" * 16, 1)


@pytest.fixture
def vault(tmp_path):
    server = Vault()
    (tmp_path / "token").write_text(server.token)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def aws():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    server.stop()


@pytest.fixture(params=["file", "vault", "kms"])
def made(request, tmp_path, monkeypatch):
    """A function that opens the same provider again."""
    if request.param == "file":
        (tmp_path / "keys").mkdir(mode=0o700)
        return lambda: FileKeys(tmp_path / "keys")
    if request.param == "vault":
        server = request.getfixturevalue("vault")
        return lambda: VaultKeys(VaultChoices(server.address, tmp_path / "token"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    endpoint = request.getfixturevalue("aws")
    return lambda: KmsKeys(KmsChoices(endpoint, "eu-west-1", f"plora-{tmp_path.name}".replace("[", "-").strip("]")))


def test_an_epoch_is_the_same_for_every_process_and_gone_when_destroyed(made):
    one, other = made(), made()
    assert one.epochs() == {}
    assert (one.new_epoch(), one.new_epoch(), other.new_epoch()) == (1, 2, 3)
    known = one.epochs()
    assert known == other.epochs() == made().epochs()
    assert len(set(known.values())) == 3
    assert {len(secret) for secret in known.values()} == {32}
    final = one.destroy_epoch(1)
    assert one.destroy_epoch(1) == final
    assert one.epochs() == made().epochs() == {epoch: known[epoch] for epoch in (2, 3)}
    one.destroy_epoch(2)
    assert made().new_epoch() == 4
    assert sorted(made().epochs()) == [3, 4]


def test_a_store_lives_on_any_provider(made, tmp_path):
    ring = KeyRing.create(tmp_path / "keys", made())
    with pytest.raises(KeyRingExists):
        KeyRing.create(tmp_path / "keys", made())
    places = {"blobs": tmp_path / "data" / "blobs", "now": START}
    url = f"sqlite:///{tmp_path}/data/plora.db"
    with Store.open(url, keyring=ring, **places) as store:
        tenant = store.ensure_tenant("acme", START).id
        assert store.rotate_keys(START).rewrapped == 1
        assert [each.state.value for each in store.keys_status().epochs] == ["enabled", "primary"]
        assert store.roll_epoch(START).destroyed == (1, 2)
        status = store.keys_status()
    assert [(each.state.value, each.data_keys) for each in status.epochs] == [
        ("destroyed", 0),
        ("destroyed", 0),
        ("primary", 1),
    ]
    again = KeyRing.open(tmp_path / "keys", made())
    with Store.open(url, keyring=again, **places) as store:
        assert store.ensure_tenant("acme", START).id == tenant


def test_an_epoch_that_vanished_is_final_after_the_providers_delay(made, tmp_path):
    provider = made()
    ring = KeyRing.create(tmp_path / "keys", provider)
    places = {"blobs": tmp_path / "data" / "blobs", "now": START}
    url = f"sqlite:///{tmp_path}/data/plora.db"
    with Store.open(url, keyring=ring, **places) as store:
        store.rotate_keys(START)
    final = made().destroy_epoch(1)
    assert final == provider.delay == timedelta(days=7 if provider.name == "kms" else 0)
    with Store.open(url, keyring=KeyRing.open(tmp_path / "keys", made()), **places) as store:
        gone, left = store.keys_status().epochs
    assert (gone.state.value, gone.destroyed_at) == ("destroyed", START + final)
    assert (left.state.value, left.destroyed_at) == ("primary", None)


class Hands:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def away(vault, tmp_path):
    hands = Hands()
    ring = KeyRing.create(tmp_path / "keys", VaultKeys(VaultChoices(vault.address, tmp_path / "token")), hands)
    return vault, ring, hands, ring.wrap(b"d" * 32, PLACE)


def test_a_sealed_provider_is_done_without_for_ten_minutes_and_not_longer(away):
    vault, ring, hands, wrapped = away
    vault.sealed = True
    hands.now = 599
    assert ring.unwrap(wrapped, PLACE) == b"d" * 32
    assert isinstance(ring.problem(), KeysAway)
    hands.now = 661
    with pytest.raises(KeysAway) as refused:
        ring.unwrap(wrapped, PLACE)
    assert vault.token not in str(refused.value)
    with pytest.raises(KeysAway):
        ring.wrap(b"d" * 32, PLACE)
    vault.sealed = False
    hands.now = 722
    assert ring.unwrap(wrapped, PLACE) == b"d" * 32
    assert ring.problem() is None
    assert ring.failures == 2


def test_a_refusal_is_told_apart_and_a_new_token_is_taken(away, tmp_path):
    vault, ring, hands, wrapped = away
    vault.token = "another"
    with pytest.raises(KeysDenied):
        ring.new_epoch()
    hands.now = 700
    with pytest.raises(KeysDenied):
        ring.unwrap(wrapped, PLACE)
    (tmp_path / "token").write_text("another\n")
    assert ring.new_epoch() == 2
    hands.now = 761
    assert ring.unwrap(wrapped, PLACE) == b"d" * 32


def test_an_epoch_made_elsewhere_is_asked_for_once(away, tmp_path):
    vault, ring, _, _ = away
    other = KeyRing.open(tmp_path / "keys", VaultKeys(VaultChoices(vault.address, tmp_path / "token")))
    other.new_epoch()
    wrapped = other.wrap(b"e" * 32, PLACE)
    assert ring.unwrap(wrapped, PLACE) == b"e" * 32
    unknown = wrapped[:1] + (9).to_bytes(4, "big") + wrapped[5:]
    asked = vault.asked
    for _ in range(20):
        with pytest.raises(Unreadable):
            ring.unwrap(unknown, PLACE)
    assert vault.asked - asked <= 2
    vault.sealed = True
    with pytest.raises(KeysAway):  # not known to be unreadable
        ring.unwrap(wrapped[:1] + (8).to_bytes(4, "big") + wrapped[5:], PLACE)


def test_nobody_there_is_away(tmp_path):
    (tmp_path / "token").write_text("token")
    with pytest.raises(KeysAway):
        VaultKeys(VaultChoices("http://127.0.0.1:9", tmp_path / "token")).epochs()
    with pytest.raises(KeysDenied):
        VaultKeys(VaultChoices("http://127.0.0.1:9", tmp_path / "none")).epochs()
