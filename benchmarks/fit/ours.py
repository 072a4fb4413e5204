"""plora's modes on one Basis: one vector for each user, all users of a cohort in common passes."""

import math
from collections.abc import Sequence

import torch

import plora
from benchmarks.fit.modes import Cohort, Made, Mode
from plora import BaseModel, Basis, Engine, Example, FitFailed, FitSettings, Fitted, Optimizer, Precision

FP32, BF16 = Precision.FP32, Precision.BF16


class Failed(Exception):
    """A user of the benchmark could not be fitted; the figures would leave that user out."""

    def __init__(self, mode: str, reason: str) -> None:
        super().__init__(mode, reason)
        self.mode, self.reason = mode, reason

    def __str__(self) -> str:
        return f"{self.mode}: a user's fit failed ({self.reason})"


class Fitting:
    """`plora.fit` on an engine that stands, as a trainer's does; adapters become bytes, as everybody's do."""

    def __init__(self, name: str, engine: Engine, settings: FitSettings) -> None:
        self.name, self.engine, self.settings = name, engine, settings

    def __call__(self, cohort: Cohort) -> Made:
        engine = self.engine
        outcomes = plora.fit(engine.base, engine.basis, cohort, self.settings, engine=engine)
        fitted = [fitted_or_raise(outcome, self.name) for outcome in outcomes]
        for one in fitted:
            plora.dumps(one.adapter)
        passes = sum(one.passes for one in fitted) / len(fitted)
        return Made(passes, vectors=torch.stack([one.adapter.vector for one in fitted]))


def modes(base: BaseModel, basis: Basis, part: str, adam_steps: int) -> list[Mode]:
    """Every mode on this Basis; Adam stops where it did best on users who are not reported."""
    full, half = Engine(base, basis, FP32), Engine(base, basis, BF16)
    adam = FitSettings(optimizer=Optimizer.ADAM, steps=adam_steps, patience=adam_steps + 1)
    chosen = (
        ("adam", full, adam),
        ("newton", full, FitSettings()),
        ("newton-bf16", half, FitSettings(precision=BF16)),
        ("newton-2", half, FitSettings(steps=2, precision=BF16)),
    )
    found = [
        Mode(name, Fitting(name, engine, settings), part, engine.precision.value) for name, engine, settings in chosen
    ]
    return [*found, Mode("low-rank", LowRank(half), part, half.precision.value)]


class LowRank:
    """`plora.fit_low_rank`: a low-rank change of the user's own beside the user's vector, which is fitted first."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __call__(self, cohort: Cohort) -> Made:
        base, basis, engine = self.engine.base, self.engine.basis, self.engine
        vectors = [fitted_or_raise(one, "low-rank") for one in plora.fit(base, basis, cohort, engine=engine)]
        start = [one.adapter for one in vectors]
        made = plora.fit_low_rank(base, basis, cohort, engine=engine, start=start)
        fitted = [one for one in made if isinstance(one, plora.LowRankFitted)]
        if len(fitted) < len(made):
            raise Failed("low-rank", "a user's fit failed")
        for one in fitted:
            plora.dumps(one.adapter)
        passes = sum(one.passes + start.passes for one, start in zip(fitted, vectors, strict=True)) / len(fitted)

        def judge(held_out: Cohort) -> list[list[float]]:
            return [_losses(engine, user, one.adapter) for user, one in zip(held_out, fitted, strict=True)]

        return Made(passes, judge)


def _losses(engine: Engine, examples: Sequence[Example], adapter: plora.LowRankAdapter) -> list[float]:
    texts = [example.text for example in examples]
    answers = plora.predict(engine.base, engine.basis, texts, [adapter] * len(texts))
    return [-math.log(max(1e-9, one.probabilities[e.target])) for one, e in zip(answers, examples, strict=True)]


def fitted_or_raise(outcome: object, mode: str) -> Fitted:
    """Raises Failed."""
    if isinstance(outcome, Fitted):
        return outcome
    raise Failed(mode, outcome.reason.value if isinstance(outcome, FitFailed) else type(outcome).__name__)


def generic(basis: Basis, part: str) -> Mode:
    """Nobody's vector: what everybody is served before a fit."""

    def make(cohort: Cohort) -> Made:
        return Made(0.0, vectors=torch.zeros(len(cohort), basis.spec.dimensions))

    return Mode("generic", make, part, repeat=False)
