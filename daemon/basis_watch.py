"""A Basis in training, watched: its Trainer is asked how far it is, and metrics, log and API hear of it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from daemon import logs
from daemon.messages import BasisProgress
from daemon.metrics import Metrics


class BasisWatch:
    """Asks every `pause_s` while a Basis is trained. `heard` holds what was last answered, by Basis."""

    def __init__(self, ask: Callable[[str], BasisProgress | None], metrics: Metrics, pause_s: float) -> None:
        self._ask, self._metrics, self._pause_s = ask, metrics, pause_s
        self.heard: dict[int, BasisProgress] = {}

    @contextmanager
    def over(self, basis: int) -> Iterator[None]:
        """Watch inside the `with`."""
        ended = threading.Event()
        thread = threading.Thread(target=self._look, args=(basis, ended), name="basis-watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.heard.pop(basis, None)
            self._show(BasisProgress(0, 0, 0.0, None, 0, 0.0))

    def _look(self, basis: int, ended: threading.Event) -> None:
        while not ended.wait(self._pause_s):
            try:
                found = self._ask(str(basis))
            except Exception as error:  # noqa: BLE001 - a look that fails must not end the training
                logs.write_error("basis_watch", error, {"basis": basis})
                continue
            if found is not None:
                self._hear(basis, found)

    def _hear(self, basis: int, found: BasisProgress) -> None:
        before = self.heard.get(basis)
        self.heard[basis] = found
        self._show(found)
        if before is None or before.epoch != found.epoch:
            told = {"trained": found.epoch, "epochs": found.epochs, "loss": round(found.loss, 4)}
            pace = {"examples": found.examples, "pace": round(found.examples_per_s, 1)}
            logs.write("basis_progress", {"basis": basis, **told, **pace})

    def _show(self, found: BasisProgress) -> None:
        self._metrics.basis_epoch.set(found.epoch)
        self._metrics.basis_epochs.set(found.epochs)
        self._metrics.basis_loss.set(found.loss)
        self._metrics.basis_pace.set(found.examples_per_s)
