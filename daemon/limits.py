"""Who has asked how much lately: buckets in the memory of this process, for as many as fit.

With several daemons behind one address, each lets in so much.
"""

import hashlib
import math
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from policies.admission import Admit, Bucket, Rate, Refuse, admit

MOST_BUCKETS = 50_000
"""Of each kind. Whoever was not seen for the longest is forgotten first, and begins with a full bucket."""


class Kind(Enum):
    """What has a bucket of its own."""

    TENANT = "tenant"  # requests, and each event and text in them
    USER = "user"  # events
    SOURCE = "source"  # refused tokens, by the address that sent them


@dataclass(frozen=True, slots=True)
class Rates:
    """What each of a kind may have, in a second and at once. One daemon's share, not a cluster's."""

    tenant_per_s: float = 20_000.0
    tenant_burst: float = 60_000.0
    user_per_s: float = 500.0
    user_burst: float = 20_000.0
    source_per_s: float = 5.0
    source_burst: float = 300.0

    def __post_init__(self) -> None:
        for kind in Kind:
            self.of(kind)

    def of(self, kind: Kind) -> Rate:
        """Raises InvalidFact."""
        return {
            Kind.TENANT: Rate(self.tenant_per_s, self.tenant_burst),
            Kind.USER: Rate(self.user_per_s, self.user_burst),
            Kind.SOURCE: Rate(self.source_per_s, self.source_burst),
        }[kind]


class Admission:
    """Asks the policy, and keeps what it answers. Thread-safe. `on_refusal` hears the kind of each refusal."""

    def __init__(
        self,
        rates: Rates,
        now: Callable[[], datetime],
        *,
        on_refusal: Callable[[str], object] = lambda _: None,
        keep: int = MOST_BUCKETS,
    ) -> None:
        self._rates = {kind: rates.of(kind) for kind in Kind}
        self._now, self._on_refusal, self._keep = now, on_refusal, keep
        self._buckets: dict[Kind, OrderedDict[bytes, Bucket]] = {kind: OrderedDict() for kind in Kind}
        self._salt = secrets.token_bytes(16)  # names are kept as hashes that mean nothing elsewhere
        self._lock = threading.Lock()

    def wait_s(self, kind: Kind, *name: str, cost: float = 1.0) -> int:
        """0 when it is let in, and taken from its bucket; else after how many whole seconds to try again."""
        key = self._key(name)
        with self._lock:
            buckets = self._buckets[kind]
            answer = admit(buckets.get(key), cost, self._rates[kind], self._now())
            if isinstance(answer, Admit):
                buckets[key] = answer.bucket
                buckets.move_to_end(key)
                if len(buckets) > self._keep:
                    buckets.popitem(last=False)
                return 0
        self._on_refusal(kind.value)
        return _whole_seconds(answer)

    def __len__(self) -> int:
        return sum(len(each) for each in self._buckets.values())

    def _key(self, name: tuple[str, ...]) -> bytes:
        digest = hashlib.blake2b(key=self._salt, digest_size=16)
        for each in name:
            text = each.encode("utf-8", "surrogatepass")
            digest.update(len(text).to_bytes(4, "big") + text)
        return digest.digest()


def _whole_seconds(refused: Refuse) -> int:
    return max(1, math.ceil(min(refused.retry_after_s, 86_400.0)))
