"""Exports to a bucket, and what a statement is worth that somebody has touched."""

import json
import socket
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from storage import KeyRing
from storage.exports import Exports, WrappedKey
from storage.fileblobs import FileBlobs
from storage.s3blobs import Patience, S3Blobs, client_of
from storage.signing import Signer
from storage.statements import dumps, holds, loads, signature_of

QUICK = Patience(whole_s=0.5, connect_s=0.2, answer_s=2, first_pause_s=0.01, longest_pause_s=0.05)
SIGNER = Signer(bytes(range(32)))
TEXTS = st.text(max_size=20)
VALUES = st.one_of(st.none(), st.integers(-(2**60), 2**60), TEXTS, st.lists(TEXTS, max_size=3))
FROZEN = (
    b"0c58a7054b73fc966cf5ef5a2be98d6a6b9f5720be8f16f1d6a9edcd60b7fbdb"
    b"506aa1f966362f089f7c065830f9b3c828dff149d27c88aef1ab0e16b1ba1d03"
)
FACTS = st.dictionaries(TEXTS.filter(lambda name: name != "signature"), VALUES, max_size=5)


@given(FACTS)
@settings(max_examples=50, deadline=None)
def test_a_statement_holds_for_its_facts_and_its_key_alone(facts):
    content = dumps(SIGNER, facts)
    assert content == dumps(SIGNER, facts)
    assert loads(SIGNER.public, content) == facts
    assert loads(Signer(bytes(32)).public, content) is None
    assert not holds(SIGNER.public, {**facts, "more": 1}, signature_of(SIGNER, facts))


@given(st.integers(0, 10_000), st.integers(0, 7))
@settings(max_examples=100, deadline=None)
def test_a_changed_statement_is_none_or_says_the_same(place, bit):
    facts = {"kind": "erasure", "tenant": "a" * 32, "user": "b" * 32, "at": 1_700_000_000_000_000, "lookup": "c" * 32}
    content = bytearray(dumps(SIGNER, facts))
    content[place % len(content)] ^= 1 << bit
    assert loads(SIGNER.public, bytes(content)) in (None, facts)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff", b'{"signature":1}', b'{"signature":"zz"}'])
def test_what_is_no_statement_is_none(content):
    assert loads(SIGNER.public, content) is None


def test_a_frozen_statement_still_holds():
    """Whoever kept one years ago checks it with the same key."""
    content = (
        b'{"at":1700000000000000,"hash":"'
        + b"00" * 32
        + b'","kind":"checkpoint","seq":7,"signature":"'
        + FROZEN
        + b'"}'
    )
    assert loads(SIGNER.public, content) == {
        "kind": "checkpoint",
        "seq": 7,
        "hash": "00" * 32,
        "at": 1_700_000_000_000_000,
    }


def test_wrapped_keys_come_back_in_parts(tmp_path):
    ring = KeyRing.create(tmp_path / "keys")
    exports = Exports(FileBlobs(tmp_path / "export"), ring.signer())
    keys = [WrappedKey(f"{number:032x}", bytes([number % 256]) * 16, 1, bytes(65)) for number in range(10_001)]
    at = datetime(2026, 3, 1, tzinfo=UTC)
    assert not exports.has_keys(2)
    exports.keep_keys(2, at, keys)
    assert exports.has_keys(2)
    assert list(exports.keys(2)) == keys
    assert list(exports.keys(3)) == []


def test_a_bucket_takes_exports_and_an_erasure_does_not_wait_for_it(world, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def started() -> ThreadedMotoServer:
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
        server.start()
        return server

    server = started()
    client = client_of(f"http://127.0.0.1:{port}", patience=QUICK)
    client.create_bucket(Bucket="exports")
    place = S3Blobs(client, "exports", f"{world.tenant}/", QUICK)
    world.store.close()
    world.store = world.open(exports=place)
    alice, bob = world.user("alice"), world.user("bob")
    world.store.forget(world.tenant, "alice", "operator", world.now)
    world.store.checkpoint_audit(world.now)
    assert place.names("erasure-") == [f"erasure-{alice}"]
    assert world.store.verify_audit().exported == 1
    server.stop()
    assert world.store.forget(world.tenant, "bob", "operator", world.now).complete
    assert world.store.unexported() == 1
    server = started()
    assert world.store.export_pending(world.now)
    assert f"erasure-{bob}" in place.names("erasure-")
    assert json.loads(place.get(f"erasure-{bob}"))["kind"] == "erasure"
    server.stop()
