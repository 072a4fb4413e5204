"""From measurements to rows: medians over rounds, ratios within a round, intervals over users."""

from collections.abc import Sequence
from statistics import mean

from benchmarks.fit.frontier import Compared, Measured
from benchmarks.fit.limits import WHOLE
from benchmarks.fit.rows import Row
from benchmarks.fit.stats import bootstrap, median, paired
from benchmarks.fit.stopwatch import Clock


def tally(compared: Compared, clock: Clock, seed: int) -> list[Row]:
    """The rows of one setting: every mode, then the limits."""
    by_key = {one.mode.key: one for one in compared.measured}
    rows = [_row(one, compared, by_key, clock, seed) for one in compared.measured]
    return rows + _limits(compared)


def _row(one: Measured, compared: Compared, by_key: dict[str, Measured], clock: Clock, seed: int) -> Row:
    setting, mode = compared.setting, one.mode
    seconds = _seconds(one, clock)
    adam = by_key.get(f"adam/{mode.basis}/fp32")
    nll = bootstrap(one.losses, seed) if one.losses else None
    delta = _delta(one, adam, seed) if adam is not one else None
    passes = mean(taken.outcome.passes for taken in one.taken)
    peaks = [taken.peak_mb for taken in one.taken if taken.peak_mb is not None]
    timed = mode.name != "generic"
    return Row(
        part="frontier",
        mode=mode.name,
        users=len(one.users),
        examples_per_user=setting.examples,
        dataset=setting.dataset,
        basis=mode.basis,
        precision=mode.precision,
        examples_mean=compared.examples_mean,
        tokens_per_user=compared.tokens_per_user,
        distinct_texts=compared.distinct_texts,
        users_per_s=1 / median(seconds) if timed else None,
        seconds_per_user=median(seconds) if timed else None,
        wall_s_per_user=median(_seconds(one, Clock.WALL)) if timed else None,
        cpu_s_per_user=median(_seconds(one, Clock.CPU)) if timed else None,
        rounds=len(one.taken),
        ratio_to_peft=_ratio(by_key.get("peft/fp32"), seconds, clock) if timed else None,
        ratio_to_adam=_ratio(adam, seconds, clock) if timed else None,
        passes=passes,
        nll=nll.mean if nll else None,
        nll_low=nll.low if nll else None,
        nll_high=nll.high if nll else None,
        delta_adam=delta[0] if delta else None,
        delta_adam_low=delta[1] if delta else None,
        delta_adam_high=delta[2] if delta else None,
        peak_mb=max(peaks) if peaks and timed else None,
        fraction_of_limit=_fraction(compared, mode.basis, mode.precision, passes, seconds),
        fraction_of_full_limit=_full_fraction(compared, mode.precision, passes, seconds),
        note=_note(compared, one),
    )


def _limits(compared: Compared) -> list[Row]:
    setting = compared.setting
    return [
        Row(
            part="frontier",
            mode="limit",
            users=setting.cohort * setting.rounds,
            examples_per_user=setting.examples,
            dataset=setting.dataset,
            basis=mode.basis,
            precision=mode.precision,
            examples_mean=compared.examples_mean,
            tokens_per_user=compared.tokens_per_user,
            users_per_s=1 / median(seconds),
            seconds_per_user=median(seconds),
            rounds=len(seconds),
            passes=1.0,
            note=way,
        )
        for mode, seconds, way in compared.limits.modes()
        if seconds
    ]


def _seconds(one: Measured, clock: Clock) -> list[float]:
    """Seconds a user, round by round."""
    each = len(one.users) / len(one.taken)
    return [taken.seconds(clock) / each for taken in one.taken]


def _ratio(reference: Measured | None, seconds: Sequence[float], clock: Clock) -> float | None:
    if reference is None:
        return None
    return median([theirs / mine for theirs, mine in zip(_seconds(reference, clock), seconds, strict=True)])


def _delta(one: Measured, adam: Measured | None, seed: int) -> tuple[float, float, float] | None:
    """Against Adam on the same Basis, on the users that both were given."""
    if adam is None or not one.losses:
        return None
    theirs = dict(zip(adam.users, adam.losses, strict=True))
    found = paired(one.losses, [theirs[user] for user in one.users], seed)
    return found.mean, found.low, found.high


def _fraction(compared: Compared, part: str, precision: str, passes: float, seconds: Sequence[float]) -> float | None:
    """Bare seconds of the same work, the blocks below the part once and each pass above them, over ours."""
    bare = compared.limits.passes.get((part, precision))
    if not bare or not passes:
        return None
    below = compared.limits.below.get((part, precision)) or [0.0] * len(bare)
    return median([(b + passes * a) / mine for a, b, mine in zip(bare, below, seconds, strict=True)])


def _full_fraction(compared: Compared, precision: str, passes: float, seconds: Sequence[float]) -> float | None:
    bare = compared.limits.passes.get((WHOLE, precision))
    if not bare or not passes:
        return None
    return median([passes * a / mine for a, mine in zip(bare, seconds, strict=True)])


def _note(compared: Compared, one: Measured) -> str:
    if one.mode.name == "adam":
        return f"stops after {compared.choices[f'adam steps, {one.mode.basis}']:.0f}"
    if one.mode.name in ("peft", "trainer", "peft-tuned"):
        return f"rate {compared.choices['peft rate']:g}"
    return f"ridge {compared.choices['ridge']:g}" if one.mode.name == "head" else ""
