"""Pictures: NLL by examples for each data set, wins and losses, and how often what was sure was right."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.fit.plot import PlotAbsent
from benchmarks.quality.parts import shots_name
from benchmarks.quality.rows import Row
from benchmarks.quality.settings import ALL
from benchmarks.quality.tally import Cells, bins_by_user

SHOWN = 8
"""Examples of a newcomer where a picture shows one number of them."""

OURS = ("ours_gated", "ours", "ours_bias", "vector", "generic", "label_prior", "wrong_user")
"""Drawn with full lines; the others are dashed."""


def draw(rows: Sequence[Row], cells: Cells, out: Path) -> list[Path]:
    """few-DATASET.png for each data set, wins.png and reliability.png. Raises PlotAbsent."""
    pyplot = _pyplot()
    made = []
    for dataset in dict.fromkeys(row.dataset for row in rows if row.nll is not None):
        curve = [row for row in rows if row.dataset == dataset and row.regime != "full" and row.nll is not None]
        made.append(_saved(pyplot, _few(pyplot, dataset, curve), out / f"few-{dataset}.png"))
    shown = [row for row in rows if row.regime == "few" and row.shots == _shots(rows) and row.win is not None]
    if shown:
        made.append(_saved(pyplot, _wins(pyplot, shown), out / "wins.png"))
    bins = _reliability_bins(cells, _shots(rows))
    if bins:
        made.append(_saved(pyplot, _reliability(pyplot, bins), out / "reliability.png"))
    return made


def _pyplot() -> Any:  # matplotlib has no types that the checker reads here
    try:
        import matplotlib as mpl  # noqa: PLC0415

        mpl.use("Agg")
        from matplotlib import pyplot  # noqa: PLC0415
    except ImportError as error:
        raise PlotAbsent from error
    return pyplot


def _shots(rows: Sequence[Row]) -> int:
    """8, or the most that newcomers have in these rows."""
    there = {row.shots for row in rows if row.regime == "few"}
    return SHOWN if SHOWN in there or not there else max(there)


def _few(pyplot: Any, dataset: str, rows: Sequence[Row]) -> Any:
    figure, panel = pyplot.subplots(figsize=(8, 5))
    places = sorted({row.shots for row in rows}, key=lambda shots: float("inf") if shots == ALL else shots)
    methods = list(dict.fromkeys(row.method for row in rows))
    colours = pyplot.get_cmap("tab20")
    for at, method in enumerate(methods):
        mine = {row.shots: row for row in rows if row.method == method}
        x = [index + (at - len(methods) / 2) * 0.02 for index, shots in enumerate(places) if shots in mine]
        points = [mine[shots] for shots in places if shots in mine]
        y = [row.nll or 0.0 for row in points]
        low = [
            value - (row.nll_low if row.nll_low is not None else value) for value, row in zip(y, points, strict=True)
        ]
        high = [
            (row.nll_high if row.nll_high is not None else value) - value for value, row in zip(y, points, strict=True)
        ]
        line = "-" if method in OURS else "--"
        errors = np.maximum([low, high], 0.0)
        panel.errorbar(
            x, y, yerr=errors, fmt=f"o{line}", color=colours(at % 20), label=method, markersize=3, elinewidth=0.5
        )
    panel.set_xticks(range(len(places)), [shots_name(shots) for shots in places])
    panel.set_xlabel("examples learned by a newcomer")
    panel.set_ylabel("held-out NLL, nats")
    panel.set_ylim(*_room(rows))
    panel.set_title(dataset)
    panel.legend(fontsize=6, ncol=2)
    return figure


def _room(rows: Sequence[Row]) -> tuple[float, float]:
    """From the best to a little above generic: a method that fails by far would flatten all the others."""
    found = [row.nll for row in rows if row.nll is not None]
    generic = [row.nll for row in rows if row.method == "generic" and row.nll is not None]
    top = max(generic, default=max(found))
    span = max(top - min(found), 0.05)
    return min(found) - 0.2 * span, top + 0.6 * span


def _wins(pyplot: Any, rows: Sequence[Row]) -> Any:
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    most = max(sum(row.dataset == dataset for row in rows) for dataset in datasets)
    size = (4.0 * len(datasets), 1.2 + 0.25 * most)
    figure, axes = pyplot.subplots(1, len(datasets), figsize=size, squeeze=False)
    for panel, dataset in zip(axes[0], datasets, strict=True):
        mine = [row for row in rows if row.dataset == dataset]
        names = [row.method for row in mine]
        left = np.zeros(len(mine))
        for part, colour in (("loss", "tab:red"), ("tie", "lightgrey"), ("win", "tab:green")):
            width = np.array([getattr(row, part) or 0.0 for row in mine])
            panel.barh(names, width, left=left, color=colour, label=part)
            left = left + width
        panel.set_title(f"{dataset}, {shots_name(mine[0].shots)} examples", fontsize=8)
        panel.tick_params(labelsize=6)
        panel.invert_yaxis()
    axes[0][0].legend(fontsize=6)
    return figure


Bins = Mapping[str, Mapping[str, NDArray[np.float64]]]
"""data set -> method -> (bins, 3) shares of tests, of the sure and of the right."""


def _reliability_bins(cells: Cells, shots: int) -> Bins:
    return {
        place.dataset: {
            name: bins_by_user(cell).mean(0)
            for name, cell in found.items()
            if name in ("generic", "label_prior", "ours", "ours_gated")
        }
        for place, found in cells.items()
        if place.regime == "few" and place.shots == shots
    }


def _reliability(pyplot: Any, bins: Bins) -> Any:
    figure, axes = pyplot.subplots(1, len(bins), figsize=(4.0 * len(bins), 4.0), squeeze=False)
    for panel, (dataset, methods) in zip(axes[0], bins.items(), strict=True):
        panel.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
        for method, found in methods.items():
            there = found[:, 0] > 0
            panel.plot(
                found[there, 1] / found[there, 0], found[there, 2] / found[there, 0], "o-", label=method, markersize=3
            )
        panel.set_xlabel("how sure")
        panel.set_ylabel("how often right")
        panel.set_title(dataset, fontsize=8)
    axes[0][0].legend(fontsize=6)
    return figure


def _saved(pyplot: Any, figure: Any, file: Path) -> Path:
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    return file
