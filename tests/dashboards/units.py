"""A number as Grafana would write it, by the unit of its panel."""

import math

SUFFIX = {"ops": "/s", "reqps": "/s", "percent": " %", "ms": " ms"}
TIMES = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


def written(value: float, unit: str, decimals: int | None = None) -> str:
    """`value` in its unit, short enough for an axis."""
    if math.isnan(value):
        return "–"
    if unit == "percentunit":
        return f"{_plain(value * 100, decimals)} %"
    if unit == "s":
        return _time(value, decimals)
    if unit == "bytes":
        return _scaled(value, 1024.0, ("B", "KiB", "MiB", "GiB", "TiB"), " ", decimals)
    return _scaled(value, 1000.0, ("", "k", "M", "G"), "", decimals) + SUFFIX.get(unit, "")


def _time(value: float, decimals: int | None) -> str:
    for size, name in TIMES:
        if abs(value) >= 2 * size or (abs(value) >= size and name == "d"):
            return f"{_plain(value / size, 1)} {name}"
    if 0 < abs(value) < 1:
        return f"{_plain(value * 1000, 1)} ms"
    return f"{_plain(value, decimals)} s"


def _scaled(value: float, step: float, names: tuple[str, ...], gap: str, decimals: int | None) -> str:
    power = 0
    while abs(value) >= step and power < len(names) - 1:
        value, power = value / step, power + 1
    return f"{_plain(value, 1 if power else decimals)}{gap}{names[power]}"


def _plain(value: float, decimals: int | None) -> str:
    if decimals is None:
        decimals = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 or value == 0 else 4
    text = f"{value:.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in {"-0", ""} else text
