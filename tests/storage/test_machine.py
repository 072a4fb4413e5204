"""Any order of recording, claiming, settling, expiring, forgetting and rotating, against a model made of dicts."""

import shutil
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from storage import (
    EventIdReused,
    EventKind,
    FinishedRun,
    KeyRing,
    NewEvent,
    Recorded,
    RunState,
    StaleEpoch,
    Store,
    UserForgotten,
)
from tests.faults.figures import record

NAMES = st.sampled_from(["alice", "bob"])
IDS = st.sampled_from(["1", "2", "3", "4"])
TEXTS = st.sampled_from([b"good", b"bad"])


@dataclass
class Person:
    user: str
    events: dict[int, bytes] = field(default_factory=dict)
    versions: list[tuple[bytes, bool]] = field(default_factory=list)
    watermark: int = 0
    run: int | None = None

    @property
    def current(self) -> bytes | None:
        return next((content for content, promoted in reversed(self.versions) if promoted), None)


@dataclass
class Lease:
    name: str
    epoch: int
    until: datetime | None = None


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp())
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        self.ring = KeyRing.create(self.home / "keys")
        self.address = self.url()
        self.store = self.open()
        self.tenant = self.store.ensure_tenant("acme", self.now).id
        self.people: dict[str, Person] = {}
        self.forgotten: dict[str, str] = {}
        self.identities: dict[str, tuple[str, bytes, int]] = {}
        self.open_runs: dict[int, Lease] = {}
        self.claims: list[tuple[int, int]] = []

    def url(self) -> str:
        """Of the database that this history is played on."""
        return f"sqlite:///{self.home}/data/plora.db"

    def open(self) -> Store:
        return Store.open(
            self.address, keyring=self.ring, blobs=self.home / "data/blobs", now=self.now, clock=lambda given, _: given
        )

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.home)

    @rule(name=NAMES, identity=IDS, text=TEXTS)
    def record(self, name: str, identity: str, text: bytes) -> None:
        event = NewEvent("s", identity, name, EventKind.EXAMPLE, text, self.now)
        [outcome] = self.store.record_events(self.tenant, [event], self.now, default_consent=True)
        if identity in self.identities:
            owner, before, seq = self.identities[identity]
            same = owner == name and before == text
            assert outcome.seq == seq
            assert isinstance(outcome, Recorded if same else EventIdReused)
        elif name in self.forgotten:
            assert isinstance(outcome, UserForgotten)
        else:
            assert isinstance(outcome, Recorded)
            assert not outcome.duplicate
            person = self.people.setdefault(name, Person(outcome.user))
            person.events[outcome.seq] = text
            self.identities[identity] = (name, text, outcome.seq)

    @rule(name=NAMES)
    def consent(self, name: str) -> None:
        self.now += timedelta(seconds=1)
        event = NewEvent("s", f"consent {self.now}", name, EventKind.CONSENT, b"", self.now, consent=True)
        [outcome] = self.store.record_events(self.tenant, [event], self.now, default_consent=True)
        assert isinstance(outcome, Recorded)
        assert outcome.user != self.forgotten.pop(name, None)
        person = self.people.setdefault(name, Person(outcome.user))
        assert person.user == outcome.user

    @rule(name=NAMES)
    def open_run(self, name: str) -> None:
        person = self.people.get(name)
        user = person.user if person else self.forgotten.get(name, "0" * 32)
        run = self.store.open_run(user, "basis", "why", self.now)
        assert (run is not None) == (person is not None and person.run is None)
        if person is not None and run is not None:
            person.run = run.id
            self.open_runs[run.id] = Lease(name, 0)

    @rule(seconds=st.integers(0, 40))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(limit=st.integers(1, 2))
    def claim(self, limit: int) -> None:
        free = {run for run, lease in self.open_runs.items() if lease.until is None or lease.until <= self.now}
        claimed = self.store.claim_runs("me", limit, 30, self.now)
        assert len(claimed) == min(limit, len(free))
        for run in claimed:
            assert run.id in free
            lease = self.open_runs[run.id]
            lease.epoch, lease.until = lease.epoch + 1, self.now + timedelta(seconds=30)
            assert run.epoch == lease.epoch
            self.claims.append((run.id, run.epoch))

    def held(self, claim: tuple[int, int]) -> Lease | None:
        lease = self.open_runs.get(claim[0])
        return lease if lease is not None and lease.until is not None and lease.epoch == claim[1] else None

    @rule(data=st.data(), promoted=st.booleans())
    def finish(self, data: st.DataObject, promoted: bool) -> None:
        if not self.claims:
            return
        claim = data.draw(st.sampled_from(self.claims))
        lease = self.held(claim)
        person = self.people.get(lease.name) if lease else None
        watermark = max(person.events, default=0) if person else 0
        made = FinishedRun(f"{claim}".encode(), promoted, "code", "reason", "{}", "base", "basis", watermark)
        try:
            version = self.store.finish_run(*claim, made, self.now)
        except StaleEpoch:
            assert lease is None
            return
        assert lease is not None
        assert person is not None
        person.versions.append((made.adapter, promoted))
        person.watermark, person.run = max(person.watermark, watermark), None
        assert version.version == len(person.versions)
        del self.open_runs[claim[0]]

    @rule(promoted=st.booleans())
    def finish_all(self, promoted: bool) -> None:
        """Every claim ever made, in one batch: only those still held write anything."""
        batch = []
        for claim in self.claims:
            lease = self.held(claim)
            person = self.people.get(lease.name) if lease else None
            watermark = max(person.events, default=0) if person else 0
            made = FinishedRun(f"{claim}".encode(), promoted, "code", "reason", "{}", "base", "basis", watermark)
            batch.append((*claim, made))
        answers = self.store.finish_runs(batch, self.now)
        for claim, (_, _, made), answer in zip(self.claims, batch, answers, strict=True):
            lease = self.held(claim)
            assert isinstance(answer, StaleEpoch) == (lease is None)
            if lease is not None:
                person = self.people[lease.name]
                person.versions.append((made.adapter, promoted))
                person.watermark, person.run = max(person.watermark, made.watermark_seq), None
                assert answer.version == len(person.versions)
                del self.open_runs[claim[0]]

    @rule(data=st.data(), end=st.sampled_from(["fail", "retry", "extend"]))
    def settle(self, data: st.DataObject, end: str) -> None:
        if not self.claims:
            return
        claim = data.draw(st.sampled_from(self.claims))
        lease = self.held(claim)
        if end == "extend":
            assert self.store.extend_leases([claim], 30, self.now) == ({claim[0]} if lease else set())
            if lease:
                lease.until = self.now + timedelta(seconds=30)
            return
        try:
            if end == "fail":
                self.store.fail_run(*claim, "code", "reason", self.now)
            else:
                self.store.retry_run(*claim, self.now, "code", self.now)
        except StaleEpoch:
            assert lease is None
            return
        assert lease is not None
        if end == "retry":
            lease.until = None
        else:
            person = self.people[lease.name]
            person.run, person.watermark = None, max([person.watermark, *person.events])
            del self.open_runs[claim[0]]

    @rule(name=NAMES)
    def forget(self, name: str) -> None:
        receipt = self.store.forget(self.tenant, name, "operator", self.now)
        if name in self.people:
            person = self.people.pop(name)
            assert receipt is not None
            assert receipt.complete
            self.forgotten[name] = person.user
            self.open_runs.pop(person.run or 0, None)
            self.identities = {key: value for key, value in self.identities.items() if value[0] != name}
        else:
            assert (receipt.user if receipt else None) == self.forgotten.get(name)

    @rule()
    def rotate(self) -> None:
        self.store.roll_epoch(self.now)

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.ring = KeyRing.open(self.home / "keys")
        self.store = self.open()

    @invariant()
    def the_store_is_the_model(self) -> None:
        for name, person in self.people.items():
            assert self.store.user(self.tenant, name).id == person.user
            kept = {event.seq: event.content for event in self.store.events(person.user) if event.content}
            assert kept == person.events
            activity = self.store.activity(person.user, self.now)
            fresh = sum(seq > person.watermark for seq in person.events)
            assert (activity.total, activity.fresh) == (len(person.events), fresh)
            assert activity.has_open_run == (person.run is not None)
            served = self.store.current_adapter(person.user)
            assert (served.content if served else None) == person.current
            assert (person.user in self.store.due_users(self.now, 10)) == (fresh > 0 and person.run is None)
        for user in self.forgotten.values():
            assert self.store.events(user) == []
        running = {run.id for run in self.store.runs(state=RunState.RUNNING)}
        assert running == {run for run, lease in self.open_runs.items() if lease.until is not None}
        assert self.store.verify_audit().ok


SHORT = settings(
    max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
LONG = settings(SHORT, max_examples=120, stateful_step_count=50, derandomize=False, print_blob=True)


def machine(server) -> type[StoreMachine]:
    """The machine on PostgreSQL: every history has a database of its own."""

    class PostgresMachine(StoreMachine):
        def url(self) -> str:
            return server.make()

        def teardown(self) -> None:
            super().teardown()
            server.drop(self.address)

    return PostgresMachine


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_any_history_leaves_what_the_model_says(database, server):
    if database == "postgres":
        run_state_machine_as_test(machine(server), settings=settings(SHORT, max_examples=6))
    else:
        run_state_machine_as_test(StoreMachine, settings=SHORT)


@pytest.mark.long
@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_any_history_leaves_what_the_model_says_for_long(database, part, server):
    """Four parts of 120 histories of up to 50 steps on each database."""
    chosen = machine(server) if database == "postgres" else StoreMachine
    run_state_machine_as_test(seed(20_261_122 + part)(chosen), settings=LONG)
    record(f"A7.{database}.{part}", 20_261_122 + part, histories=LONG.max_examples, steps=50, violations=0, full=True)
