"""History made up: gauges, counters and histograms over some hours, written as promtool backfills it."""

import math
import random
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist

At = Callable[[float], float]
"""From hours since the start to a value, or to a rate each second."""

MOST_DRAWN = 60
LONG = ("plora_http_requests_total", "plora_event_to_adapter_seconds", "plora_build_info")
"""What the objectives are counted from."""


@dataclass(slots=True)
class History:
    """Series collected by family. `noise` is the share by which rates and values tremble."""

    end: float
    hours: float
    step_s: float = 30.0
    seed: int = 7
    noise: float = 0.06
    before_days: float = 30.0  # of the objectives' series, once an hour: their budget is counted over so long
    _families: dict[str, tuple[str, list[str]]] = field(default_factory=dict, repr=False)

    def gauge(self, name: str, labels: Mapping[str, str], value: At, *, noise: float = 0.0) -> None:
        """A value as it is; NaN leaves a gap, as of a process that is gone."""
        draw = self._random(name, labels)
        points = ((at, value(hour) * (1 + noise * draw.uniform(-1, 1))) for at, hour in self._times(long=name in LONG))
        self._write(name, "gauge", self._lines(name, labels, points))

    def counter(self, name: str, labels: Mapping[str, str], rate: At) -> None:
        """What a rate sums up to."""
        draw, points, total, before = self._random(name, labels), [], 0.0, None
        for at, hour in self._times(long=name in LONG):
            total += rate(hour) * (at - (before or at)) * (1 + self.noise * draw.uniform(-1, 1))
            points.append((at, math.floor(total)))
            before = at
        self._write(name.removesuffix("_total"), "counter", self._lines(name, labels, points))

    def histogram(
        self,
        name: str,
        labels: Mapping[str, str],
        bounds: Iterable[float],
        rate: At,
        spread: Callable[[float, float], float],
    ) -> None:
        """Observations at `rate`; `spread(hour, q)` is the value that the share q stays below."""
        draw, bounds = self._random(name, labels), (*bounds, math.inf)
        counts, total, owed, before = [0.0] * len(bounds), 0.0, 0.0, None
        lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for at, hour in self._times(long=name in LONG):
            owed += rate(hour) * (at - (before or at)) * (1 + self.noise * draw.uniform(-1, 1))
            before, drawn = at, min(MOST_DRAWN, int(owed))
            for _ in range(drawn):  # each draw stands for as many observations as were not drawn
                value, weight = spread(hour, draw.uniform(0.002, 0.998)), int(owed) / drawn
                counts[bisect_left(bounds, value)] += weight
                total += value * weight
            owed -= int(owed)
            reached = 0.0
            for bound, count in zip(bounds, counts, strict=True):
                reached += count
                lines[_le(bound)].append((at, reached))
            lines["sum"].append((at, total))
            lines["count"].append((at, reached))
        for key, points in lines.items():
            suffix, more = (f"_{key}", {}) if key in {"sum", "count"} else ("_bucket", {"le": key})
            self._write(name, "histogram", self._lines(name + suffix, {**labels, **more}, points))

    def backfill_text(self, to: Path) -> None:
        """The whole history in one file."""
        with to.open("w") as file:
            for family, (kind, lines) in self._families.items():
                file.write(f"# TYPE {family} {kind}\n")
                file.writelines(lines)
            file.write("# EOF\n")

    def _times(self, *, long: bool = False) -> Iterable[tuple[float, float]]:
        """Times and their hours; with `long` also once an hour of the days before, whose hours are negative."""
        count = int(self.hours * 3600 / self.step_s)
        start = self.end - count * self.step_s
        if long:
            hours = int(self.before_days * 24)
            yield from ((start - 3600 * each, -float(each)) for each in range(hours, 0, -1))
        yield from ((start + index * self.step_s, index * self.step_s / 3600) for index in range(count + 1))

    def _random(self, name: str, labels: Mapping[str, str]) -> random.Random:
        return random.Random(f"{self.seed}{name}{sorted(labels.items())}")

    def _write(self, family: str, kind: str, lines: Iterable[str]) -> None:
        self._families.setdefault(family, (kind, []))[1].extend(lines)

    @staticmethod
    def _lines(name: str, labels: Mapping[str, str], points: Iterable[tuple[float, float]]) -> Iterable[str]:
        named = ",".join(f'{key}="{value}"' for key, value in labels.items())
        return (f"{name}{{{named}}} {_figure(value)} {at:.0f}\n" for at, value in points if not math.isnan(value))


def _figure(value: float) -> str:
    return f"{value:.6g}" if abs(value) < 1e5 else f"{value:.0f}"


def _le(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else repr(float(bound))


def lognormal(median: At, spread: float) -> Callable[[float, float], float]:
    """Quantiles of durations: skewed, never negative."""
    return lambda hour, q: median(hour) * math.exp(spread * _normal(q))


def normal(mean: At, deviation: float) -> Callable[[float, float], float]:
    """Quantiles around a mean."""
    return lambda hour, q: mean(hour) + deviation * _normal(q)


def _normal(q: float) -> float:
    """The quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(q)
