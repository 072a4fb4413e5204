"""How sure the answers of a Basis should be: its calibration, out of the report of how it was trained."""

import json
import threading
from typing import TYPE_CHECKING

from storage import Store

if TYPE_CHECKING:
    import plora

KEPT = 256


class Calibrations:
    """The calibration of each Basis. A report never changes, so reading it once is enough. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[tuple[str, str], plora.Calibration] = {}
        self._lock = threading.Lock()

    def of(self, tenant: str, basis: str) -> "plora.Calibration":
        """One that changes nothing where the report has none."""
        with self._lock:
            found = self._known.get((tenant, basis))
        if found is not None:
            return found
        reports = (each.report for each in self._store.bases(tenant) if each.fingerprint == basis)
        made = read_calibration(next(reports, None))
        with self._lock:
            if len(self._known) >= KEPT:
                self._known.clear()
            self._known[tenant, basis] = made
        return made


def read_calibration(report: str | None) -> "plora.Calibration":
    """What a report says of it."""
    import plora  # noqa: PLC0415 - the command line does without torch

    try:
        told = json.loads(report or "{}").get("calibration") or {}
        return plora.Calibration(float(told["temperature"]), int(told["answers"]))
    except (ValueError, KeyError, TypeError, AttributeError, plora.PLoRAError):
        return plora.Calibration()
