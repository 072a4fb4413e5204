"""Every board, and the files that they are kept in."""

from collections.abc import Callable

from helm.generate.boards.grafana import dumps
from helm.generate.boards.overview import OVERVIEW
from helm.generate.boards.panels import Board
from helm.generate.boards.quality import QUALITY
from helm.generate.boards.ray import RAY
from helm.generate.boards.security import SECURITY
from helm.generate.boards.serving import SERVING
from helm.generate.boards.training import TRAINING

BOARDS = (OVERVIEW, TRAINING, QUALITY, SERVING, SECURITY, RAY)


def files() -> dict[str, Callable[[], str]]:
    """Path below the chart -> how its text is made."""
    return {f"dashboards/{each.uid}.json": lambda each=each: _text(each) for each in BOARDS}  # type: ignore[misc]


def _text(board: Board) -> str:
    return dumps(board, {each.uid: each.title for each in BOARDS})
