"""One line of the tables."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of something a second. `floor` is what a release must reach, where it must."""

    database: str
    what: str
    per_s: float
    floor: float | None
    seconds: float

    @property
    def holds(self) -> bool:
        return self.floor is None or self.per_s >= self.floor

    def to_dict(self) -> dict[str, object]:
        return asdict(self) | {"holds": self.holds}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call takes with few and with many users in the database: medians of rounds taken in turn."""

    database: str
    what: str
    few_ms: float
    many_ms: float
    rounds: int
    limit: float | None

    @property
    def ratio(self) -> float:
        return self.many_ms / self.few_ms

    @property
    def holds(self) -> bool:
        return self.limit is None or self.ratio <= self.limit

    def to_dict(self) -> dict[str, object]:
        return asdict(self) | {"ratio": self.ratio, "holds": self.holds}
