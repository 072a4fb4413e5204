"""Signed checkpoints of the audit log, and every way to tamper with it that they are for."""

# ruff: noqa: S608 -- the test tampers with its own database

import random
import shutil
from contextlib import nullcontext
from dataclasses import replace
from time import perf_counter

import pytest
from sqlalchemy import create_engine, delete, insert, select, text, update

from storage import Store, audit
from storage.audit import Entry
from storage.checkpoints import ENTRIES, EVERY
from storage.exports import Exports
from storage.fileblobs import FileBlobs
from storage.tables import audit as entries
from storage.tables import audit_checkpoints, audit_head
from storage.verifying import Known, verify
from tests.faults.figures import record

SEED = 20_261_122


def shut(world):
    """Close the world's store, once."""
    store, world.store = world.store, None
    if store is not None:
        store.close()


def open_with_exports(world, folder="export", **more) -> Store:
    """The world's store, opened again with a place for exports."""
    shut(world)
    world.store = world.open(exports=FileBlobs(world.home / folder), **more)
    return world.store


def filled(world, count):
    for number in range(count):
        world.store.record_audit(world.tenant, "operator", "adapter.read", f"object-{number}", "allowed", world.later())


def test_a_checkpoint_is_due_after_a_minute_or_a_thousand_entries(world):
    store = open_with_exports(world)
    assert store.checkpoint_audit(world.now).seq == store.verify_audit().entries
    assert store.checkpoint_audit(world.later()) is None
    assert not store.audit_due(world.now + EVERY)
    filled(world, 1)
    assert not store.audit_due(world.now)
    assert store.audit_due(world.now + EVERY)
    with world.store._write(world.now) as tx:
        tx.audit_all([Entry("", "test", "fill", "x", "y")] * ENTRIES)
    assert store.audit_due(world.now)
    assert store.checkpoint_audit(world.now).seq == store.verify_audit().entries
    report = store.verify_audit()
    assert (report.ok, report.checkpoints, report.exported) == (True, 2, 2)


def test_a_checkpoint_that_could_not_be_exported_goes_later(world):
    store = open_with_exports(world)
    shutil.rmtree(world.home / "export")
    store.checkpoint_audit(world.now)
    assert not store.export_pending(world.now)
    (world.home / "export").mkdir()
    assert store.export_pending(world.later())
    report = store.verify_audit()
    assert (report.ok, report.exported) == (True, 1)


def test_an_older_copy_of_the_whole_database_is_found(world, tmp_path):
    assert world.database.exists()  # an SQLite file, that is
    store = open_with_exports(world)
    filled(world, 3)
    store.checkpoint_audit(world.now)
    shut(world)
    shutil.copytree(world.data, tmp_path / "older")
    open_with_exports(world)
    filled(world, 2)
    world.store.checkpoint_audit(world.now)
    assert world.store.verify_audit().ok
    shut(world)
    shutil.rmtree(world.data)
    shutil.copytree(tmp_path / "older", world.data)
    report = open_with_exports(world).verify_audit()
    assert (report.ok, report.problem, report.broken_at) == (False, "truncated", report.entries + 1)
    world.reopen()
    assert world.store.verify_audit().ok  # without the exports nothing shows it


def test_statements_of_another_key_or_gone_ones_are_found(world, new_world):
    store = open_with_exports(world)
    store.checkpoint_audit(world.now)
    other = new_world()
    foreign = Exports(FileBlobs(world.home / "export"), other.ring.signer())
    foreign.keep_checkpoint(open_with_exports(other).checkpoint_audit(other.now))
    assert store.verify_audit().problem == "exports"
    for path in (world.home / "export").iterdir():
        path.unlink()
    assert store.verify_audit().problem == "exports"


def test_an_altered_checkpoint_in_the_database_is_found(world):
    filled(world, 3)
    world.store.checkpoint_audit(world.now)
    assert world.store.verify_audit().checkpoints == 1
    world.sql("UPDATE audit_checkpoints SET at = at + 1")
    assert world.store.verify_audit().problem == "checkpoint"


def test_the_chain_verifies_after_a_hundred_erasures(world):
    store = open_with_exports(world)
    names = [f"user-{number}" for number in range(30 if world.url else 100)]
    world.record(*(event for name in names for event in (world.consent(name), world.event(name))))
    store.checkpoint_audit(world.now)
    for name in names:
        store.forget(world.tenant, name, "operator", world.later())
    store.checkpoint_audit(world.later())
    report = store.verify_audit()
    assert (report.ok, report.checkpoints) == (True, 2)
    assert report.entries >= 2 * len(names)


class Forger:
    """Tampers with an audit log inside a transaction that is never committed."""

    def __init__(self, connection, key, dice):
        self.connection, self.key, self.dice = connection, key, dice
        self.count = connection.execute(select(audit_head.c.seq)).scalar_one()

    def edit(self):
        column = self.dice.choice(["tenant", "actor", "action", "object", "outcome"])
        self.connection.execute(update(entries).where(entries.c.seq == self._any()).values({column: "forged"}))

    def delete(self):
        self.connection.execute(delete(entries).where(entries.c.seq == self._any()))

    def swap(self):
        one, two = self.dice.sample(range(1, self.count + 1), 2)
        for old, new in ((one, -1), (two, one), (-1, two)):
            self.connection.execute(update(entries).where(entries.c.seq == old).values(seq=new))

    def insert(self):
        at = self._any()
        self.connection.execute(text(f"UPDATE audit SET seq = -seq WHERE seq > {at}"))
        self.connection.execute(text("UPDATE audit SET seq = 1 - seq WHERE seq < 0"))
        row = self.connection.execute(select(entries).where(entries.c.seq == at)).one()
        self.connection.execute(insert(entries).values(row._asdict() | {"seq": at + 1, "prev": row.hash}))

    def truncate(self):
        """Cut the end off, and make the head fit as who has the ring's keys can."""
        end = self.dice.randrange(1, self.count)
        self.connection.execute(delete(entries).where(entries.c.seq > end))
        self._without_checkpoints()
        self._head(end, self.connection.execute(select(entries.c.hash).where(entries.c.seq == end)).scalar_one())

    def rewrite(self):
        """Change one entry and chain everything behind it anew."""
        victim = self._any()
        rows = self.connection.execute(select(entries).where(entries.c.seq >= victim).order_by(entries.c.seq)).all()
        self.connection.execute(delete(entries).where(entries.c.seq >= victim))
        self._without_checkpoints()
        self._head(victim - 1, rows[0].prev)
        for number, row in enumerate(rows):
            told = Entry(row.tenant, row.actor, row.action, row.object, row.outcome)
            audit.append(self.connection, self.key, [replace(told, outcome="x") if number == 0 else told], row.at)

    def _any(self):
        return self.dice.randrange(1, self.count + 1)

    def _without_checkpoints(self):
        self.connection.execute(delete(audit_checkpoints))

    def _head(self, seq, digest):
        mac = audit._mac(self.key, seq, digest)
        self.connection.execute(update(audit_head).values(seq=seq, hash=digest, mac=mac))


def tamper(world, count, times):
    """How many of each operator were missed with and without the exports: (operator, missed, missed without)."""
    assert world.database.exists()  # an SQLite file, that is
    store = open_with_exports(world)
    with store._write(world.now) as tx:
        told = [Entry(world.tenant, "operator", "adapter.read", f"object-{n}", "allowed") for n in range(count)]
        tx.audit_all(told)
    store.checkpoint_audit(world.now)
    told, ring = store._exports.told(), world.ring
    shut(world)
    dice = random.Random(SEED)
    engine = create_engine(f"sqlite:///{world.database}")
    missed = {}
    with engine.connect() as connection:

        def passes(exported) -> bool:
            known = Known(ring.signer().public, exported, ring.audit_key())
            return verify(lambda: nullcontext(connection), known).ok

        assert passes(told)
        for operator in ("edit", "delete", "swap", "insert", "truncate", "rewrite"):
            connection.rollback()
            seen = [0, 0]
            for _ in range(times):
                with connection.begin():
                    getattr(Forger(connection, ring.audit_key(), dice), operator)()
                    seen[0] += passes(told)
                    seen[1] += passes(None)
                    connection.get_transaction().rollback()
            missed[operator] = tuple(seen)
            connection.rollback()
        assert passes(told)
    engine.dispose()
    world.store = world.open()
    return missed


def check_b11(world, count, times, full):
    missed = tamper(world, count, times)
    with_exports = sum(each[0] for each in missed.values())
    found_alone = sum(missed[each][1] for each in ("edit", "delete", "swap", "insert"))
    record(
        "B11", SEED, full=full, entries=count, each=times, missed=with_exports, missed_by_chain_alone=found_alone,
        missed_without_exports=missed["truncate"][1] + missed["rewrite"][1],
    )  # fmt: skip
    assert with_exports == 0
    assert found_alone == 0
    assert missed["truncate"][1] == missed["rewrite"][1] == times  # by who has all keys: only the exports show it


def test_no_tampering_is_missed(world):
    check_b11(world, 300, 10, full=False)


@pytest.mark.long
def test_no_tampering_is_missed_among_two_thousand_entries(world):
    check_b11(world, 2_000, 200, full=True)


def test_verifying_is_fast(world):
    count = 30_000
    with world.store._write(world.now) as tx:
        told = [Entry(world.tenant, "operator", "adapter.read", f"object-{n}", "allowed") for n in range(count)]
        tx.audit_all(told)
    begun = perf_counter()
    report = world.store.verify_audit()
    rate = report.entries / (perf_counter() - begun)
    record("B11-rate", SEED, entries=report.entries, entries_per_s=round(rate))
    assert report.ok
    assert rate >= 50_000
