"""What the routes work with: put together once by daemon/service.py, reached by `request.app.state`."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request

from daemon.answering import Answering
from daemon.api.oidc import Verifier
from daemon.considering import Considering
from daemon.denials import Denials
from daemon.labels import Labels
from daemon.limits import Admission
from daemon.messages import BasisProgress
from daemon.metrics import Metrics
from daemon.predictor import Predictor
from daemon.rollouts import Rollouts
from daemon.settings import Settings
from daemon.standing import Standing
from daemon.steering import Steering
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
    standing: Standing
    labels: Labels
    considering: Considering
    predictor: Predictor
    rollouts: Rollouts
    answering: Answering
    basis_progress: Callable[[int], BasisProgress | None]
    trainer_ready: Callable[[], bool]
    causes: Callable[[], list[Cause]]
    now: Callable[[], datetime]
    admission: Admission
    denials: Denials
    steering: Steering
    verifier: Verifier | None = None
    stopping: threading.Event = field(default_factory=threading.Event)  # set: no new writes, and not ready


def parts_of(request: Request) -> Parts:
    """The Parts of the app that serves `request`."""
    parts = request.app.state.parts
    if not isinstance(parts, Parts):
        raise TypeError("the app was not made by create_app")
    return parts


WithParts = Annotated[Parts, Depends(parts_of)]
