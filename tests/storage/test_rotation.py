"""Rotation under readers (B1), killed on the way, keys of several daemons, and what a repeated random number does."""

import multiprocessing
import os
import random
import secrets
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress

import pytest
from sqlalchemy import insert, select

from storage import KeyRing, Store, sealing
from storage.datakeys import DataKeys
from storage.keys import KeyPlace, wrapped_epoch
from storage.states import EpochState
from storage.tables import data_keys
from tests.faults.figures import record
from tests.storage.conftest import START

SEED = 20_261_123
KEYS = 5_000


def fill(world, count):
    """`count` more data keys; their owners, and the secret of each."""
    dice = random.Random(SEED)
    owners = {dice.randbytes(16).hex(): secrets.token_bytes(32) for _ in range(count)}
    with world.store._write(world.now) as tx:
        rows = []
        for owner, secret in owners.items():
            place = KeyPlace(bytes.fromhex(world.tenant), bytes.fromhex(owner), bytes(16), 1)
            wrapped = world.ring.wrap(secret, place)
            rows.append(
                {"tenant": world.tenant, "owner": owner, "key_id": bytes(16), "generation": 1, "wrapped": wrapped}
            )
        tx.connection.execute(insert(data_keys), rows)
    return owners


def read_on(store, owners, ready, stopped, seed):
    """Read keys that are not remembered until told to stop: when each began and ended, and how many failed.

    Releases `ready` after the first. The clock is the same in all processes.
    """
    dice, keys = random.Random(seed), DataKeys(store._keys.ring, cached=0)
    names, times, failed = list(owners), [], 0
    while not stopped.is_set():
        owner = dice.choice(names)
        began = time.monotonic()
        try:
            with store._read() as connection:
                failed += keys.get(connection, owner).secret != owners[owner]
        except Exception:  # noqa: BLE001 - what is counted
            failed += 1
        times.append((began, time.monotonic()))
        if len(times) == 1:
            ready.release()
    return times, failed


def read_in_process(address, folder, owners, ready, stopped, answers, seed):  # noqa: PLR0917
    with closing(Store.open(address, keyring=KeyRing.open(folder / "keys"), blobs=folder / "b", now=START)) as store:
        answers.put(read_on(store, owners, ready, stopped, seed))


def check_rotation(world, count, *, full, processes=False):
    owners, told = fill(world, count), []
    if processes:
        kind = multiprocessing.get_context("spawn")
        ready, stopped, answers = kind.Semaphore(0), kind.Event(), kind.Queue()
        given = (world.address, world.home, owners, ready, stopped, answers)
        readers = [kind.Process(target=read_in_process, args=(*given, each)) for each in range(3)]
    else:
        ready, stopped = threading.Semaphore(0), threading.Event()
        readers = [
            threading.Thread(target=lambda each=each: told.append(read_on(world.store, owners, ready, stopped, each)))
            for each in range(3)
        ]
    for reader in readers:
        reader.start()
    for _ in readers:
        assert ready.acquire(timeout=60)
    began = time.monotonic()
    rotated = world.store.rotate_keys(world.now)
    ended = time.monotonic()
    stopped.set()
    if processes:
        told = [answers.get(timeout=60) for _ in readers]
    for reader in readers:
        reader.join()
    during = [(start, end) for times, _ in told for start, end in times if began <= start and end <= ended]
    times = sorted(end - start for start, end in during)
    reads, failed, seconds = len(times), sum(each for _, each in told), ended - began
    assert reads > 30
    p99 = times[int(reads * 0.99)] * 1000
    record(
        f"B1-{'postgres' if world.url else 'sqlite'}", SEED, full=full, keys=count, seconds=round(seconds, 2),
        reads=reads, failed=failed, p99_ms=round(p99, 2),
    )  # fmt: skip
    assert rotated.rewrapped == count + 1
    assert failed == 0
    assert seconds <= 30


def test_keys_rotate_under_readers(world):
    check_rotation(world, KEYS, full=False)


@pytest.mark.long
def test_a_hundred_thousand_keys_rotate_under_readers(world):
    check_rotation(world, 100_000, full=True, processes=world.url is not None)


def rotate(address, home):
    """In a child: rotate until killed, once everything stands ready."""
    with closing(Store.open(address, keyring=KeyRing.open(home / "keys"), blobs=home / "b", now=START)) as store:
        print("ready", flush=True)
        while True:
            store.roll_epoch(START)


CHILD = "import sys; from pathlib import Path; from tests.storage.test_rotation import rotate; "
CHILD += "rotate(sys.argv[1], Path(sys.argv[2]))"


def check_kills(world, count, kills, *, full):
    owners, dice, failed = fill(world, count), random.Random(SEED), 0
    for _ in range(kills):
        world.store.close()
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, world.address, str(world.home)], stdout=subprocess.PIPE, cwd=os.getcwd()
        )
        assert child.stdout.readline() == b"ready\n"
        with suppress(subprocess.TimeoutExpired):
            child.wait(dice.uniform(0.0, 0.25))
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        child.stdout.close()
        world.ring = KeyRing.open(world.home / "keys")
        world.store = world.open()
        with world.store._read() as connection:
            found = world.store._keys.of(connection, list(owners))
        failed += sum(getattr(found[owner], "secret", None) != secret for owner, secret in owners.items())
    rolled = world.store.roll_epoch(world.now)
    record(f"B1-kills-{'postgres' if world.url else 'sqlite'}", SEED, full=full, kills=kills, failed=failed)
    assert failed == 0
    assert rolled.rewrapped == count + 1
    assert world.ring.epochs() == (rolled.epoch,)
    assert world.store.verify_audit().ok


def test_a_killed_rotation_leaves_every_key_readable(world):
    check_kills(world, 1_000, 2, full=False)


@pytest.mark.long
def test_fifty_killed_rotations_leave_every_key_readable(world):
    check_kills(world, 5_000, 50, full=True)


def test_a_plain_rotation_keeps_the_old_epoch(world):
    user = world.user("alice")
    rotated = world.store.rotate_keys(world.now)
    assert (rotated.rewrapped, rotated.destroyed, rotated.pending) == (2, (), ())
    assert world.ring.epochs() == (1, 2)
    assert [(each.state, each.data_keys) for each in world.store.keys_status().epochs] == [
        (EpochState.ENABLED, 0),
        (EpochState.PRIMARY, 2),
    ]
    assert world.store.roll_epoch(world.later()).destroyed == (1, 2)
    assert len(world.store.events(user)) == 4


def test_another_daemon_wraps_under_the_new_epoch_and_reads_what_it_wrapped(world):
    if world.url is None:
        pytest.skip("one daemon per SQLite file")
    other = world.open(keyring=KeyRing.open(world.home / "keys"))
    with closing(other):
        assert other._keys.ring.epochs() == (1,)
        world.store.rotate_keys(world.now)
        [made] = other.record_events(world.tenant, [world.consent("zoe")], world.now)
        with world.store._read() as connection:
            wrapped = connection.execute(select(data_keys.c.wrapped).where(data_keys.c.owner == made.user)).scalar_one()
    assert wrapped_epoch(wrapped) == 2
    assert len(world.store.events(made.user)) == 1


def check_salts(count, *, full):
    salts = {sealing.seal_message(bytes(32), b"", b"")[72:96] for _ in range(count)}
    record("B9", SEED, full=full, seals=count, repeats=count - len(salts))
    assert len(salts) == count


def test_no_salt_comes_twice():
    check_salts(50_000, full=False)


@pytest.mark.long
def test_no_salt_comes_twice_in_a_million():
    check_salts(1_000_000, full=True)


def test_a_repeated_random_number_gives_two_objects_two_keys():
    """Should the generator ever repeat itself, another object still has another key: its header is another."""
    salt, seen = bytes(24), set()
    for number in range(2_000):
        header = sealing.Context(sealing.Kind.ADAPTER, b"t" * 16, number.to_bytes(16, "big"), b"k" * 16, 1).header(
            b"o" * 16
        )
        cipher, nonce, commitment = sealing._schedule(bytes(32), header, salt)
        seen.add((nonce, commitment, cipher.encrypt(bytes(12), bytes(32), None)))
    for part in zip(*seen, strict=True):
        assert len(set(part)) == 2_000
