"""The frontier as a picture: held-out NLL against seconds a user, one panel for each data set."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.fit.rows import Row

EXAMPLES = 16
COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:olive")


class PlotAbsent(Exception):
    """matplotlib is not installed."""

    def __str__(self) -> str:
        return "matplotlib is not installed; `make bench` installs it"


def draw(rows: Sequence[Row], file: Path) -> None:
    """Write a PNG. Raises PlotAbsent."""
    try:
        import matplotlib as mpl  # noqa: PLC0415

        mpl.use("Agg")
        from matplotlib import pyplot  # noqa: PLC0415
    except ImportError as error:
        raise PlotAbsent from error
    frontier = [row for row in rows if row.part == "frontier"]
    sizes = dict.fromkeys(row.examples_per_user for row in frontier)
    examples = EXAMPLES if EXAMPLES in sizes else next(iter(sizes))
    points = [row for row in frontier if row.examples_per_user == examples and row.nll is not None]
    datasets = list(dict.fromkeys(row.dataset for row in points))
    colour = dict(zip(dict.fromkeys(row.mode for row in points), COLOURS * 3, strict=False))
    figure, axes = pyplot.subplots(1, len(datasets), figsize=(5.5 * len(datasets), 4.5), squeeze=False)
    for panel, dataset in zip(axes[0], datasets, strict=True):
        _panel(panel, [row for row in points if row.dataset == dataset], colour)
        panel.set_title(f"{dataset}, {examples} examples a user")
    figure.tight_layout()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def _panel(panel, points: Sequence[Row], colour: dict[str, str]) -> None:  # type: ignore[no-untyped-def]
    for row in points:
        if row.nll is None:
            continue
        if row.seconds_per_user is None:
            panel.axhline(row.nll, color="grey", linewidth=0.8, linestyle=":")
            panel.annotate(f"{row.mode} {row.basis}", (0.01, row.nll), xycoords=("axes fraction", "data"), fontsize=6)
            continue
        low, high = row.nll_low or row.nll, row.nll_high or row.nll
        panel.errorbar(
            row.seconds_per_user,
            row.nll,
            yerr=[[row.nll - low], [high - row.nll]],
            fmt="o",
            color=colour[row.mode],
            elinewidth=0.6,
            markersize=4,
        )
        panel.annotate(
            " ".join(part for part in (row.mode, row.basis) if part),
            (row.seconds_per_user, row.nll),
            fontsize=6,
            xytext=(3, 3),
            textcoords="offset points",
        )
    panel.set_xscale("log")
    panel.set_xlabel("seconds a user")
    panel.set_ylabel("held-out NLL, nats")
