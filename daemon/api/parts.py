"""What the routes work with: put together once by daemon/service.py, reached by `request.app.state`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request

from daemon.considering import Considering
from daemon.labels import Labels
from daemon.messages import BasisProgress
from daemon.metrics import Metrics
from daemon.predictor import Predictor
from daemon.settings import Settings
from storage import Store


@dataclass(frozen=True, slots=True)
class Cause:
    """Why the daemon is not ready, or not wholly. `blocking` means: send it no requests."""

    code: str
    sentence: str
    blocking: bool


@dataclass(frozen=True)
class Parts:
    """Everything that a request may need."""

    settings: Settings
    store: Store
    metrics: Metrics
    labels: Labels
    considering: Considering
    predictor: Predictor
    basis_progress: Callable[[int], BasisProgress | None]
    trainer_ready: Callable[[], bool]
    causes: Callable[[], list[Cause]]
    now: Callable[[], datetime]


def parts_of(request: Request) -> Parts:
    """The Parts of the app that serves `request`."""
    parts = request.app.state.parts
    if not isinstance(parts, Parts):
        raise TypeError("the app was not made by create_app")
    return parts


WithParts = Annotated[Parts, Depends(parts_of)]
