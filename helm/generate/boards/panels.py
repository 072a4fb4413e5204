"""What a board is made of, as values: a Board has Rows, a Row has Panels, a Panel has Queries.

In an expression `@` stands for the matchers of the board's variables, so that no query forgets them:
`rate(plora_ticks_total{@}[$__rate_interval])`. No expression here needs PromQL's own `@`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

CHOSEN = 'cluster=~"$cluster",namespace=~"$namespace"'

GREEN, AMBER, RED, BLUE, GREY = "green", "orange", "red", "blue", "text"


class Kind(StrEnum):
    """Grafana's name of the way a panel draws."""

    STAT = "stat"
    LINES = "timeseries"
    BARS = "bargauge"


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL expression; `legend` may name labels: `{{outcome}}`."""

    expr: str
    legend: str
    colour: str | None = None  # of its one series; None: the palette's next

    @property
    def text(self) -> str:
        """The expression as Prometheus gets it, but for Grafana's variables."""
        return self.expr.replace("@", CHOSEN)


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `steps` are (from this value, this colour); the first colour is for everything below."""

    title: str
    says: str
    unit: str
    queries: tuple[Query, ...]
    kind: Kind = Kind.LINES
    width: int = 8
    height: int = 8
    base: str = GREEN
    steps: tuple[tuple[float, str], ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)  # what a value of a stat reads as
    stacked: bool = False
    logarithmic: bool = False
    least: float | None = 0.0
    most: float | None = None
    decimals: int | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Board:
    """One dashboard. Its file and its uid are `plora-<name>`."""

    name: str
    title: str
    says: str
    rows: tuple[Row, ...]

    @property
    def uid(self) -> str:
        return f"plora-{self.name}"


def stat(title: str, says: str, unit: str, query: Query, *, base: str = GREEN, **shape: object) -> Panel:
    """One number, coloured by its steps; four columns wide unless told."""
    return Panel(title, says, unit, (query,), kind=Kind.STAT, base=base, **({"width": 4, "height": 4} | shape))  # type: ignore[arg-type]


def standing(metric: str, *matchers: str) -> str:
    """A gauge that each replica reads from the same database: of each installation one, then their sum."""
    return f"sum(max by (cluster, namespace) ({metric}{{{','.join(('@', *matchers))}}}))"


def age(metric: str) -> str:
    """Seconds since the newest time that a replica states; none while it is 0, which means never."""
    return f"time() - max by (cluster, namespace) ({metric}{{@}} > 0)"


def rate(metric: str, *by: str) -> str:
    """What a counter gains each second, summed over replicas."""
    return f"sum{_by(by)} (rate({metric}{{@}}[$__rate_interval]))"


def quantile(q: float, metric: str, *by: str) -> str:
    """A quantile of a histogram, over all replicas."""
    return f"histogram_quantile({q:g}, sum{_by(('le', *by))} (rate({metric}_bucket{{@}}[$__rate_interval])))"


def quantiles(metric: str) -> tuple[Query, ...]:
    """Half, nearly all, and the slowest of a histogram."""
    named = ((0.5, "half within"), (0.95, "95 % within"), (0.99, "99 % within"))
    colours = (GREEN, AMBER, RED)
    return tuple(Query(quantile(q, metric), name, colour) for (q, name), colour in zip(named, colours, strict=True))


def _by(labels: tuple[str, ...]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""
