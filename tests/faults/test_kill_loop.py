"""A1: whatever is killed or paused, nothing acknowledged is lost and everything is done exactly once."""

import secrets
from pathlib import Path

import pytest

from tests.faults import checker
from tests.faults.figures import record
from tests.faults.killing import CHOSEN, DUE, Fleet, loop
from tests.faults.lightweight_trainer import lightweight_trainer
from tests.faults.mutants import MUTANTS
from tests.faults.zygote import DAEMON, OURS, Zygote

LONG_PARTS, KILLS, EVENTS = 10, 100, 1_000


def killed(daemons: Zygote, folder: Path, *, kills: int, events: int, seed: int) -> dict[str, object]:
    environ = CHOSEN | {"PLORA_DATA_DIR": str(folder / "data"), "PLORA_KEYS_DIR": str(folder / "keys")}
    fleet = Fleet(daemons, folder, environ)
    fleet.environ["PLORA_TRAINER_URL"] = "http://127.0.0.1:1"
    fleet.prepare()
    try:
        with lightweight_trainer(bytes.fromhex(fleet.tokens["transport"]), fit_s=0.02) as url:
            fleet.environ["PLORA_TRAINER_URL"] = url
            return loop(
                fleet, lambda: checker.in_file(folder / "data" / "plora.db", DUE), seed=seed, kills=kills, events=events
            )
    finally:
        fleet.end()


def test_a_killed_daemon_loses_nothing_and_does_nothing_twice(daemons, tmp_path):
    figures = killed(daemons, tmp_path, kills=25, events=600, seed=secrets.randbits(32))
    record("A1", **figures, full=False)
    assert not figures["broken"]
    assert figures["acked"] >= 600
    assert figures["versions"] > 50


@pytest.mark.long
@pytest.mark.parametrize("part", range(LONG_PARTS))
def test_a_thousand_kills_lose_nothing_and_do_nothing_twice(daemons, tmp_path, part):
    figures = killed(daemons, tmp_path, kills=KILLS, events=EVENTS, seed=secrets.randbits(32))
    record(f"A1.{part + 1}", **figures, full=True)
    assert not figures["broken"]
    assert figures["acked"] >= EVENTS


@pytest.mark.long
@pytest.mark.parametrize("name", ["acknowledged before it is committed", "no dedup"])
def test_the_loop_finds_what_its_checker_is_for(first_server, tmp_path, name):
    [mutant] = [each for each in MUTANTS if each.name == name]
    daemons = first_server.variant(DAEMON + OURS, mutant.changes)
    figures = killed(daemons, tmp_path, kills=30, events=400, seed=secrets.randbits(32))
    record(f"A4.loop {name}", **figures | {"broken": str(figures["broken"])})
    assert figures["broken"]
