"""Draw every board from a made-up history: `python -m tests.dashboards.pictures [FOLDER]`, by default docs/dashboards.

A real Prometheus holds the history and our rules; a headless browser takes the photographs.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.dashboards import incident, page
from tests.dashboards.installation import BEGINS, HOURS
from tests.dashboards.known import bounds
from tests.dashboards.openmetrics import History
from tests.dashboards.server import Prometheus, promtool, running

ROOT = Path(__file__).parents[2]
BOARDS = ROOT / "helm" / "dashboards"
RULES = ROOT / "helm" / "rules" / "plora.yaml"
END = 1_767_600_000.0
"""Always the same, so that the same boards make the same pictures."""

DURING = BEGINS + 0.55
"""Hours since the start: late in the incident, every alert of it fires."""


@dataclass(frozen=True, slots=True)
class Told:
    """A Prometheus that remembers the incident."""

    server: Prometheus
    end: float

    @property
    def during(self) -> float:
        return self.end - (HOURS - DURING) * 3600


def boards() -> dict[str, dict]:
    """Every board that the chart ships, by its file's name."""
    return {each.stem: json.loads(each.read_text()) for each in sorted(BOARDS.glob("*.json"))}


@contextmanager
def told(folder: Path) -> Iterator[Told]:
    """The incident, backfilled; what our rules record of it, too."""
    history = History(END, HOURS)
    incident.told(history, bounds())
    history.backfill_text(folder / "history.txt")
    blocks = (
        "tsdb",
        "create-blocks-from",
        "--max-block-duration=1500h",
        "openmetrics",
    )  # two hours would read the file 360 times
    _must(promtool(*blocks, folder / "history.txt", folder / "data"))
    with running(folder) as server:
        span = (
            f"--start={int(END - HOURS * 3600)}",
            f"--end={int(END)}",
            "--eval-interval=60s",
            f"--output-dir={folder / 'recorded'}",
        )
        _must(promtool("tsdb", "create-blocks-from", "rules", f"--url={server.url}", *span, RULES))
    for block in (folder / "recorded").iterdir():
        if (block / "meta.json").exists():
            block.rename(folder / "data" / block.name)
    with running(folder) as server:
        yield Told(server, END)


def _must(done) -> None:
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])


def main(folder: str = str(ROOT / "docs" / "dashboards")) -> None:
    """Write the pictures."""
    to = Path(folder)
    to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, told(Path(place)) as what:
        for name, board in boards().items():
            drawn = page.draw(board, what.server, what.end)
            page.photograph(drawn, to / f"{name}.png", page.height_of(board))
            print(name, "empty:", drawn.empty)
        board = boards()["plora-overview"]
        page.photograph(
            page.draw(board, what.server, what.during, hours=3.0),
            to / "plora-overview-incident.png",
            page.height_of(board),
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
