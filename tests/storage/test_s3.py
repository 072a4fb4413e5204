"""Blobs in a bucket: a real S3-speaking server behind a proxy that breaks what it is told to. Row 11 of the matrix."""

import hashlib
import itertools
import random
import socket
import threading
from datetime import UTC, datetime, timedelta

import pytest
from moto.server import ThreadedMotoServer

from storage import BasisState, BlobsAway, BlobsRefused, BlobTaken, KeyRing, Store, Unreadable
from storage.blobplaces import open_blobs
from storage.s3blobs import Patience, S3Blobs, client_of
from tests.faults.figures import record
from tests.storage.s3_faults import FAULTS, Proxy

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
AHEAD = datetime(2100, 1, 1, tzinfo=UTC)
QUICK = Patience(whole_s=20, connect_s=2, answer_s=0.25, first_pause_s=0.01, longest_pause_s=0.05)
SEED = 2_026_0301
BUCKETS = itertools.count()


@pytest.fixture(scope="module")
def proxy():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    made = Proxy(port, slow_s=1.0)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "tests")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "tests")
        yield made
    made.stop()
    server.stop()


@pytest.fixture
def bucket(proxy):
    proxy.script.be([])
    name = f"bucket-{next(BUCKETS)}"
    client_of(proxy.url).create_bucket(Bucket=name)
    return name


@pytest.fixture
def blobs(proxy, bucket):
    return S3Blobs(client_of(proxy.url, patience=QUICK), bucket, "plora/", QUICK)


def test_a_blob_is_kept_read_listed_and_deleted(proxy, bucket):
    blobs = open_blobs(f"s3://{bucket}/plora/", endpoint=proxy.url)
    assert blobs.place == f"s3://{bucket}/plora/"
    name = blobs.keep(b"sealed")
    assert name == hashlib.sha256(b"sealed").hexdigest() == blobs.keep(b"sealed")
    assert (blobs.read(name), blobs.list()) == (b"sealed", [name])
    blobs.delete(name)
    blobs.delete(name)
    assert blobs.list() == []
    with pytest.raises(Unreadable):
        blobs.read(name)


def test_exports_are_never_replaced(blobs):
    blobs.keep(b"sealed")
    blobs.put("audit-2.json", b"two")
    blobs.put("audit-1.json", b"one")
    blobs.put("audit-1.json", b"one")
    with pytest.raises(BlobTaken):
        blobs.put("audit-1.json", b"1st")
    assert blobs.names() == ["audit-1.json", "audit-2.json"]
    assert blobs.names("audit-2") == ["audit-2.json"]
    assert blobs.get("audit-1.json") == b"one"
    with pytest.raises(Unreadable):
        blobs.get("audit-3.json")


def test_only_old_and_unnamed_blobs_are_swept(blobs):
    live, dead = blobs.keep(b"live"), blobs.keep(b"dead")
    assert blobs.sweep(blobs.list(), {live}, NOW) == 0
    assert blobs.sweep(blobs.list(), {live}, AHEAD) == 1
    assert blobs.list() == [live]
    assert dead != live


def test_a_versioned_bucket_loses_every_version(proxy, bucket, blobs):
    client = client_of(proxy.url)
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    name = blobs.keep(b"sealed")
    other = blobs.keep(b"other")
    key = f"plora/{name}.blob"
    client.delete_object(Bucket=bucket, Key=key)  # leaves a delete marker over the version
    blobs.keep(b"sealed")
    assert len(client.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]) == 2
    blobs.delete(name)
    left = client.list_object_versions(Bucket=bucket, Prefix=key)
    assert not left.get("Versions")
    assert not left.get("DeleteMarkers")
    assert blobs.read(other) == b"other"


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        (method, fault)
        for method in ("PUT", "HEAD", "GET")
        for fault in FAULTS
        if (method, fault) not in {("HEAD", "412"), ("GET", "412")}  # these carry no condition
    ],
)
def test_a_broken_request_is_sent_again_and_leaves_one_object(proxy, blobs, method, fault):
    proxy.script.be([fault] if fault == "slow" else [fault, fault], method)
    sealed = bytes(range(256)) * 300
    name = blobs.keep(sealed)
    assert blobs.read(name) == sealed
    proxy.script.be([])
    assert blobs.list() == [name]


def test_half_an_object_is_not_taken_for_the_whole(proxy, blobs):
    proxy.script.be(["half"])
    with pytest.raises(BlobTaken):
        blobs.keep(b"sealed" * 1000)
    assert blobs.keep(b"sealed anew" * 1000) in blobs.list()


def test_a_bucket_that_stays_away_is_named_in_time(proxy, bucket):
    short = Patience(whole_s=0.3, connect_s=1, answer_s=1, first_pause_s=0.01)
    blobs = S3Blobs(client_of(proxy.url, patience=short), bucket, "", short)
    proxy.script.be(["503"] * 1000)
    with pytest.raises(BlobsAway, match="SlowDown"):
        blobs.keep(b"sealed")
    proxy.script.be([])
    nobody = S3Blobs(client_of("http://127.0.0.1:9", patience=short), bucket, "", short)
    with pytest.raises(BlobsAway):
        nobody.read("0" * 64)


def test_a_bucket_that_refuses_is_not_asked_again(proxy, bucket, blobs):
    proxy.script.be(["403", "403"])
    with pytest.raises(BlobsRefused, match="AccessDenied"):
        blobs.keep(b"sealed")
    assert proxy.script.seen == ["PUT"]
    elsewhere = S3Blobs(client_of(proxy.url), f"{bucket}-not-there", "", QUICK)
    with pytest.raises(BlobsRefused, match="NoSuchBucket"):
        elsewhere.list()


def test_many_at_once_keep_one_object(blobs):
    names, threads = [], []
    for _ in range(8):
        threads.append(threading.Thread(target=lambda: names.append(blobs.keep(b"the same"))))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert len(names) == 8
    assert blobs.list() == [names[0]]


def test_whatever_the_bucket_does_a_basis_is_one_object_and_one_row(proxy, blobs, tmp_path):
    _bases_under_faults(proxy, blobs, tmp_path, 12)


@pytest.mark.long
def test_whatever_the_bucket_does_many_bases_are_one_object_and_one_row_each(proxy, blobs, tmp_path):
    _bases_under_faults(proxy, blobs, tmp_path, 300)


def _bases_under_faults(proxy, blobs, home, count):
    draw = random.Random(SEED)
    kinds = [fault for fault in FAULTS if fault != "slow" or draw.random() < 0.5]
    ring = KeyRing.create(home / "keys")
    met = 0
    with Store.open(f"sqlite:///{home}/data/plora.db", keyring=ring, blobs=blobs, now=NOW) as store:
        tenant = store.ensure_tenant("acme", NOW).id
        for at in range(count):
            store.open_basis(tenant, "reviews", "", NOW)
            basis = store.claim_basis("daemon-1", 60, NOW)
            proxy.script.be([draw.choice(kinds) for _ in range(draw.randrange(4))])
            met += len(proxy.script.faults)
            store.finish_basis(basis.id, basis.epoch, f"f-{at}", "base-1", b"basis %d " % at * 5000, "{}", NOW)
        proxy.script.be([])
        assert len(blobs.list()) == len(store.bases(tenant)) == count
        assert all(each.state is BasisState.READY for each in store.bases(tenant))
        assert all(store.basis_content(f"f-{at}", tenant) == b"basis %d " % at * 5000 for at in range(count))
        assert store.sweep_blobs(AHEAD, timedelta(0)) == 0
    record("row 11", SEED, bases=count, faults=met, objects=count, rows=count, full=count >= 300)
