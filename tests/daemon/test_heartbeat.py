"""A beat walks the path of everybody's events, stamps each stage, and counts as nobody."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from daemon import clock
from daemon.heartbeat import FIRST, KEPT, NAME, SOURCE, Beats, Heartbeat, HeartbeatChoices
from daemon.metric_table import BEATS
from daemon.metrics import Metrics
from daemon.settings import InvalidSetting, Settings, load
from storage import EventKind, NewEvent
from tests.daemon.conftest import World, open_world


@pytest.fixture
def beating(settings: Settings) -> Iterator[World]:
    yield from open_world(replace(settings, heartbeat=HeartbeatChoices(every_s=60.0)))


def stamps(world: World) -> dict[str, float]:
    text = world.client.get("/metrics").text
    name = "plora_heartbeat_timestamp_seconds"
    return {stage: float(text.split(f'{name}{{stage="{stage}"}} ')[1].split("\n")[0]) for stage in BEATS}


def failures(world: World) -> float:
    lines = world.client.get("/metrics").text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("plora_heartbeat_failures_total{"))


def test_without_a_basis_there_is_no_beat(beating):
    assert not beating.service.heartbeat.beat()
    assert beating.service.parts.store.synthetic_users() == []


def test_every_s_is_checked():
    assert load({"PLORA_HEARTBEAT_EVERY_S": "0"}).heartbeat.every_s == 0
    with pytest.raises(InvalidSetting, match="PLORA_HEARTBEAT_EVERY_S"):
        load({"PLORA_HEARTBEAT_EVERY_S": "0.5"})


def test_a_beat_of_two_daemons_is_one(beating):
    beating.give_basis(b"basis", "f1" * 32)
    store = beating.service.parts.store
    now = clock.now()
    others = [
        Heartbeat(
            *(store, Beats(Metrics(), lambda: now), 60.0, beating.service.parts.settings.tenant),
            labels=lambda _: frozenset({"good", "bad"}),
            consider=lambda _: None,
            now=lambda: now,
        )
        for _ in range(2)
    ]
    assert [each.beat() for each in others] == [True, True]
    (user,) = store.synthetic_users()
    assert len(store.events(user)) == FIRST


def test_nobody_counts_lists_or_learns_from_the_user_of_the_beat(beating):
    beating.give_basis(b"basis", "f1" * 32)
    beat_by_hand(beating)
    store, tenant = beating.service.parts.store, beating.tenant
    (user,) = store.synthetic_users()
    assert store.user(tenant, NAME).id == user
    assert store.users(tenant) == []
    assert store.population(tenant, 100) == []
    assert store.health(clock.now()).users == 0
    beating.give_adapter(NAME, b"adapter", "f1" * 32)
    assert store.newest_versions(100) == []


def test_what_is_still_on_its_way_when_the_next_beat_goes_out_has_failed(beating):
    beating.give_basis(b"basis", "f1" * 32)
    beat_by_hand(beating)
    store = beating.service.parts.store
    (user,) = store.synthetic_users()
    assert failures(beating) == 0
    store.open_run(user, "f1" * 32, "a beat", clock.now())
    beat_by_hand(beating, later_s=60)
    assert failures(beating) == 1


def test_a_beat_that_is_not_recorded_is_stamped_nowhere_and_counted(beating):
    beating.give_basis(b"basis", "f1" * 32)
    now = clock.now()
    taken = NewEvent(
        SOURCE, f"{int(now.timestamp() // 60)}-0", "ann", EventKind.EXAMPLE, b'{"label":"good","text":"x"}', now
    )
    beating.service.parts.store.record_events(beating.tenant, [taken], now, default_consent=True)
    assert not beat_by_hand(beating, at=now)
    assert failures(beating) == 1
    assert stamps(beating)["recorded"] == 0


def test_beats_go_on_after_somebody_forgot_their_user(beating):
    beating.give_basis(b"basis", "f1" * 32)
    beat_by_hand(beating)
    store = beating.service.parts.store
    (before,) = store.synthetic_users()
    store.forget(beating.tenant, NAME, "a host", clock.now())
    assert beat_by_hand(beating, later_s=60)
    (after,) = store.synthetic_users()
    assert after != before
    assert store.events(after)


def test_old_beats_are_deleted(beating):
    beating.give_basis(b"basis", "f1" * 32)
    for number in range(3 * KEPT):
        beat_by_hand(beating, later_s=60 * number)
    (user,) = beating.service.parts.store.synthetic_users()
    assert KEPT <= len(beating.service.parts.store.events(user)) <= 2 * KEPT + 1


def beat_by_hand(world: World, later_s: float = 0.0, at: datetime | None = None) -> bool:
    """A beat that nobody takes on: what comes of it is looked at in the test of the whole path."""
    when = (at or clock.now()) + timedelta(seconds=later_s)
    parts = world.service.parts
    return Heartbeat(
        *(parts.store, world.service.scheduler.beats, 60.0, parts.settings.tenant),
        labels=lambda _: frozenset({"good", "bad"}),
        consider=lambda _: None,
        now=lambda: when,
    ).beat()
