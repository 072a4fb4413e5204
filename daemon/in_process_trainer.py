"""A Trainer in this process: the same sealed bytes through the same functions, without Ray."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from daemon.messages import BasisProgress
from daemon.trainer_client import SealedTrainer
from daemon.trainer_errors import TrainerBusy, TrainerLacksKey, TrainerRefused
from daemon.transport import Purpose
from storage.sealing import Unreadable
from storage.transport_keys import Keys, TransportKeyUnknown

if TYPE_CHECKING:
    from daemon.models import Models
    from daemon.work import Received


class InProcessTrainer(SealedTrainer):
    """The same bytes through the same functions in this process, one request at a time. Loads its model when asked."""

    def __init__(self, load: Callable[[], "Models"], keys: Keys | bytes) -> None:
        super().__init__(keys)
        self._load = load
        self._models: Models | None = None
        self._lock = threading.Lock()

    def ready(self) -> bool:
        """Always: there is nothing to wait for."""
        return True

    def progress(self, basis: str) -> BasisProgress | None:
        models = self._models
        return None if models is None else models.spool.progress(basis)

    def close(self) -> None:
        """Let the model go."""
        with self._lock:
            self._models = None

    def _carry(self, purpose: Purpose, envelope: bytes) -> bytes:  # noqa: ARG002 - the envelope says it too
        from daemon.work import answer, reply  # noqa: PLC0415 - torch is loaded only where work is done

        received = self._receive(envelope)
        with self._lock:
            answered = answer(self._loaded(), received)
        return reply(received, answered)

    @contextmanager
    def _open(self, envelope: bytes) -> Iterator[Iterable[bytes]]:
        from daemon.batching import QueueFull  # noqa: PLC0415
        from daemon.streams import frames_of  # noqa: PLC0415

        received = self._receive(envelope)
        with self._lock:
            models = self._loaded()
        try:
            frames = frames_of(models, received)
        except QueueFull:
            raise TrainerBusy from None
        try:
            yield frames
        finally:
            frames.close()

    def _receive(self, envelope: bytes) -> "Received":
        from daemon.work import receive  # noqa: PLC0415

        try:
            return receive(self._keys, envelope)
        except TransportKeyUnknown as unknown:
            raise TrainerLacksKey(unknown.newest) from None
        except Unreadable:
            raise TrainerRefused from None

    def _loaded(self) -> "Models":
        self._models = self._models or self._load()
        return self._models
