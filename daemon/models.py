"""A Trainer's BaseModel and the Bases it was last given, each with the Engine that fits and scores on it."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import plora
from daemon import pace
from daemon.adapter_cache import AdapterCache
from daemon.generating import Generating
from daemon.messages import BasisRequest
from daemon.population import Made
from daemon.spool import Spool
from daemon.trainer_order import TrainerOrder

BASES_KEPT = 4


class Models:
    """Bases by fingerprint, and the spool of the population in training, which `train` shares among processes.

    An Engine is made when a Basis is first fitted on, a Speaker when it first answers; they go with the Basis.
    """

    def __init__(
        self,
        base: plora.BaseModel,
        keep: int = BASES_KEPT,
        *,
        spool: Spool | None = None,
        train: Callable[[BasisRequest], Made] | None = None,
    ) -> None:
        self.base, self.spool, self.train = base, spool or Spool(), train
        self._keep = keep
        self._bases: OrderedDict[str, plora.Basis] = OrderedDict()
        self._engines: dict[str, tuple[plora.Precision, plora.Engine]] = {}
        self._speakers: dict[str, plora.Speaker] = {}
        self._lock = threading.Lock()
        self._pace = 0.0
        self.adapters = AdapterCache()
        self.generating = Generating()

    def pace(self, texts: Sequence[str]) -> float:
        """Tokens a second of the frozen model alone, measured once on the first texts that are enough."""
        if not self._pace and len(texts) >= pace.LEAST:
            self._pace = pace.bare_pace(self.base, texts)
        return self._pace

    def give(self, content: bytes) -> None:
        """Hold the Basis in `content`. Raises plora.MalformedBasis."""
        basis = plora.loads_basis(content)
        with self._lock:
            self._bases.setdefault(basis.fingerprint, basis)
            self._bases.move_to_end(basis.fingerprint)
            while len(self._bases) > self._keep:
                fingerprint, _ = self._bases.popitem(last=False)
                self._engines.pop(fingerprint, None)
                self._speakers.pop(fingerprint, None)

    def basis(self, fingerprint: str) -> plora.Basis | None:
        """The Basis, or None if it was never given or given up since."""
        with self._lock:
            if fingerprint in self._bases:
                self._bases.move_to_end(fingerprint)
            return self._bases.get(fingerprint)

    def engine(self, basis: plora.Basis, precision: plora.Precision) -> plora.Engine:
        """The Engine of a Basis, made if need be. Only for the thread that makes passes: it is not for two at once."""
        with self._lock:
            asked, engine = self._engines.get(basis.fingerprint, (None, None))
        if engine is not None and asked is precision:
            return engine
        engine = plora.Engine(self.base, basis, precision)
        with self._lock:
            if basis.fingerprint in self._bases:
                self._engines[basis.fingerprint] = precision, engine
        return engine

    def speaker(self, fingerprint: str) -> plora.Speaker:
        """The Speaker of a Basis that is held, made if need be. Raises KeyError where it was given up meanwhile."""
        with self._lock:
            found, basis = self._speakers.get(fingerprint), self._bases[fingerprint]
            self._bases.move_to_end(fingerprint)
        if found is None:
            found = plora.Speaker(self.base, basis)
            with self._lock:
                if fingerprint in self._bases:
                    found = self._speakers.setdefault(fingerprint, found)
        return found


def load_base(order: TrainerOrder) -> plora.BaseModel:
    """The BaseModel that `order` names. Raises a plora.PLoRAError."""
    return plora.load(
        order.model,
        kind=plora.Kind(order.kind),
        device=order.device,
        max_tokens=order.max_tokens,
        revision=order.revision,
    )
