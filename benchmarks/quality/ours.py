"""Our own methods on one trained Basis, and the controls that every gain is held against."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.quality.fits import Fits, processor_seconds
from benchmarks.quality.folds import Person
from benchmarks.quality.gate import Choice, bias_of, choices
from benchmarks.quality.methods import Maker, Said
from benchmarks.quality.settings import ZERO
from benchmarks.quality.shared import Shared
from plora import Adapter, Example, FitFailed, Fitted
from plora.controls import prior_shift

BYTES_PER_NUMBER = 4


@dataclass(frozen=True, slots=True)
class Generic:
    """Nobody's vector: what everybody is served before a fit."""

    fits: Fits
    name: str = "generic"

    def say(self, people: Sequence[Person], shots: int, known: bool) -> Said:  # noqa: ARG002
        return Said(self.fits.generic_answers(people), 0.0, 0)


@dataclass(frozen=True, slots=True)
class LabelPrior:
    """The generic model, its label shares moved to the user's smoothed ones, as the library's scoring does."""

    fits: Fits
    labels: tuple[str, ...]
    name: str = "label_prior"

    def say(self, people: Sequence[Person], shots: int, known: bool) -> Said:  # noqa: ARG002
        tests = self.fits.generic_answers(people)
        if shots == ZERO:
            return Said(tests, 0.0, 0)
        with processor_seconds() as spent:
            learned = self.fits.generic_learned(people, shots)
            shifts = [
                self._shift(chances, person.first(shots)) for chances, person in zip(learned, people, strict=True)
            ]
        moved = tuple((one + shift).log_softmax(-1) for one, shift in zip(tests, shifts, strict=True))
        return Said(moved, spent[0] / len(people), BYTES_PER_NUMBER * len(self.labels))

    def _shift(self, chances: Tensor, learned: Sequence[Example]) -> Tensor:
        return prior_shift(chances.exp(), [self.labels.index(example.target) for example in learned])


@dataclass(frozen=True, slots=True)
class Vector:
    """Each user's own fitted vector; nobody's at zero shots and where a fit failed."""

    fits: Fits
    name: str

    def say(self, people: Sequence[Person], shots: int, known: bool) -> Said:  # noqa: ARG002
        if shots == ZERO:
            return Said(self.fits.generic_answers(people), 0.0, 0)
        made = self.fits.fit(people, shots)
        return Said(self.fits.answers(people, self.fits.vectors(people, shots)), made.seconds, made.bytes)


@dataclass(frozen=True, slots=True)
class BiasAlone:
    """Each user's label bias, fitted without content."""

    fits: Fits
    name: str = "ours_bias"

    def say(self, people: Sequence[Person], shots: int, known: bool) -> Said:  # noqa: ARG002
        if shots == ZERO:
            return Said(self.fits.generic_answers(people), 0.0, 0)
        made = self.fits.fit(people, shots)
        adapters = [bias_of(one) if isinstance(one, Fitted) else None for one in made.outcomes]
        vectors = torch.stack([self.fits.nobody if one is None else one.vector for one in adapters])
        return Said(self.fits.answers(people, vectors), made.seconds, BYTES_PER_NUMBER * self.fits.basis.spec.bias)


@dataclass(frozen=True, slots=True)
class Gated:
    """What the product serves: each user's whole vector, its label bias alone or nothing, as policy decides.

    It has no answer for users of the population: the Basis was trained on all that could be evidence here.
    """

    fits: Fits
    name: str = "ours_gated"

    def say(self, people: Sequence[Person], shots: int, known: bool) -> Said | None:
        if known:
            return None
        if shots == ZERO:
            return Said(self.fits.generic_answers(people), 0.0, 0, (False,) * len(people))
        made = self.fits.fit(people, shots)
        served = [_served(one, choice) for one, choice in zip(made.outcomes, choices(made.outcomes), strict=True)]
        vectors = torch.stack([self.fits.nobody if one is None else one.vector for one in served])
        own = tuple(one is not None for one in served)
        return Said(self.fits.answers(people, vectors), made.seconds, made.bytes, own)


def _served(outcome: Fitted | FitFailed, choice: Choice) -> Adapter | None:
    if isinstance(outcome, FitFailed) or choice is Choice.NOTHING:
        return None
    return outcome.adapter if choice is Choice.WHOLE else bias_of(outcome)


@dataclass(frozen=True, slots=True)
class WrongUser:
    """Other people's content with the user's own label bias; each stranger learned from as many shots."""

    fits: Fits
    strangers: int
    name: str = "wrong_user"

    def say(self, people: Sequence[Person], shots: int, known: bool) -> Said | None:  # noqa: ARG002
        if shots == ZERO or len(people) < 2:
            return None
        made, own = self.fits.fit(people, shots), self.fits.vectors(people, shots)
        draws = []
        for away in range(1, 1 + min(self.strangers, len(people) - 1)):
            wrong = own.roll(-away, 0)  # people stand in the order of a hash: whoever is next is anybody
            bias = self.fits.basis.spec.bias
            draws.append(self.fits.answers(people, torch.cat([own[:, :bias], wrong[:, bias:]], 1)))
        return Said(tuple(torch.stack(each) for each in zip(*draws, strict=True)), made.seconds, made.bytes)


def _generic(shared: Shared) -> Generic:
    return Generic(shared.fits)


def _label_prior(shared: Shared) -> LabelPrior:
    return LabelPrior(shared.fits, shared.fold.labels)


def _ours(shared: Shared) -> Vector:
    return Vector(shared.fits, "ours")


def _ours_bias(shared: Shared) -> BiasAlone:
    return BiasAlone(shared.fits)


def _ours_gated(shared: Shared) -> Gated:
    return Gated(shared.fits)


def _vector(shared: Shared) -> Vector:
    return Vector(shared.unbiased_fits, "vector")


def _wrong_user(shared: Shared) -> WrongUser:
    return WrongUser(shared.fits, shared.settings.wrong_users)


OURS: dict[str, Maker] = {
    "generic": _generic,
    "label_prior": _label_prior,
    "wrong_user": _wrong_user,
    "ours_bias": _ours_bias,
    "ours": _ours,
    "ours_gated": _ours_gated,
    "vector": _vector,
}
