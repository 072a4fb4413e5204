"""Row 7: while the database can not be reached the daemon says so, grows no larger, and goes on when it is back."""

import secrets
import threading
from pathlib import Path

import httpx
import pytest

from tests.faults import checker
from tests.faults.figures import record
from tests.faults.killing import CHOSEN, DUE, Fleet, settle, until
from tests.faults.lightweight_trainer import lightweight_trainer
from tests.faults.postmaster import ROLE, postmaster
from tests.faults.producers import Book, Producer
from tests.faults.proxy import proxy
from tests.faults.zygote import Zygote

GROWTH_BYTES = 100 << 20
BACK_S = 15.0


def away(daemons: Zygote, folder: Path, away_s: float, seed: int) -> dict[str, object]:
    with postmaster() as server, proxy(server.port) as between:
        environ = CHOSEN | {
            "PLORA_DATABASE_URL": f"postgresql://{ROLE}@127.0.0.1:{between.port}/{ROLE}",
            "PLORA_DATA_DIR": str(folder / "data"),
            "PLORA_KEYS_DIR": str(folder / "keys"),
            "PLORA_TRAINER_URL": "http://127.0.0.1:1",
        }
        fleet, book = Fleet(daemons, folder, environ), Book()
        fleet.prepare()
        producer = Producer(book, fleet.ports, fleet.tokens["host"], name="host", total=1_000_000, seed=seed)
        try:
            with lightweight_trainer(bytes.fromhex(fleet.tokens["transport"]), fit_s=0.02) as url:
                fleet.environ["PLORA_TRAINER_URL"] = url
                fleet.start(0)
                fleet.wait_until_up(0)
                producer.start()
                assert until(lambda: book.count > 30, 30)
                large = _bytes_of(fleet.children[0].pid)
                between.cut()
                statuses = _statuses(fleet, away_s)
                growth = _bytes_of(fleet.children[0].pid) - large
                between.join()
                known = book.count
                assert until(lambda: book.count > known, BACK_S), fleet.log.read_text()[-3000:]
                assert not fleet.children[0].wait(0), "the daemon died of it"
                producer.stop()
                told = settle(fleet, lambda: checker.violations(server.ask, DUE), book, [producer])
        finally:
            fleet.end()
    return told | {"seed": seed, "away_s": away_s, "growth_mb": growth >> 20, "statuses": sorted(statuses)}


def _statuses(fleet: Fleet, seconds: float) -> set[int]:
    """What is answered while the database is away."""
    pause, seen = threading.Event(), set()
    headers = {"Authorization": f"Bearer {fleet.tokens['operator']}"}
    for _ in range(int(seconds / 0.25)):
        seen.add(
            httpx.get(f"http://127.0.0.1:{fleet.ports[0]}/v1/users", headers=headers, timeout=30).status_code,
        )
        page = httpx.get(f"http://127.0.0.1:{fleet.ports[0]}/metrics", timeout=30)
        assert page.status_code == 200
        assert "plora_storage_up 0.0" in page.text, "who watches is told, and goes on seeing the rest"
        pause.wait(0.25)
    return seen


def _bytes_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_a_database_that_is_away_is_503_and_nothing_is_lost(daemons, tmp_path):
    figures = away(daemons, tmp_path, 2.0, secrets.randbits(32))
    record("row 7", **figures | {"statuses": str(figures["statuses"])}, full=False)
    assert not figures["broken"]
    assert figures["statuses"] == [503]
    assert figures["growth_mb"] << 20 < GROWTH_BYTES


@pytest.mark.long
def test_a_database_that_is_away_for_a_minute_is_503_and_nothing_is_lost(daemons, tmp_path):
    figures = away(daemons, tmp_path, 60.0, secrets.randbits(32))
    record("row 7", **figures | {"statuses": str(figures["statuses"])}, full=True)
    assert not figures["broken"]
    assert figures["statuses"] == [503]
    assert figures["growth_mb"] << 20 < GROWTH_BYTES
