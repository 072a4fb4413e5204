"""Whether the examples that an answer names are those that a fit without them would miss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import torch

import plora
from plora import Engine, Example, Fitted


@dataclass(frozen=True, slots=True)
class Reasons:
    """Against truly fitting without each example, over `answers`.

    `correlation` is of all examples' shares in nats; `first` how often the example that moved an answer most is named
    first, `among_three` how often it is among the three named; `seconds` the mean time of one answer's reasons.
    """

    answers: int
    correlation: float
    first: float
    among_three: float
    seconds: float


def reasons(speaker: plora.Speaker, people: Sequence[tuple[Sequence[Example], Sequence[str]]]) -> Reasons:
    """Of people's (examples, texts to answer)."""
    told, true, first, three, spent = list[float](), list[float](), 0, 0, 0.0
    for taught, texts in people:
        whole, *without = _fits(speaker.engine, [taught, *(_less(taught, at) for at in range(len(taught)))])
        for text in texts:
            begun = perf_counter()
            found = plora.influence(speaker.engine, text, whole, taught)
            spent += perf_counter() - begun
            odds = _log_odds(speaker, text, [whole, *without])
            truly = [odds[0] - each for each in odds[1:]]
            most = max(range(len(truly)), key=lambda at: abs(truly[at]))
            named = [each.example for each in found.moved]
            first += named[0] == most
            three += most in named[:3]
            shares = {each.example: each.nats for each in found.moved}
            told += [shares[at] for at in range(len(taught))]
            true += truly
    answers = sum(len(texts) for _, texts in people)
    both = torch.tensor([told, true], dtype=torch.float64)
    return Reasons(answers, float(torch.corrcoef(both)[0, 1]), first / answers, three / answers, spent / answers)


def _less(taught: Sequence[Example], at: int) -> list[Example]:
    return [*taught[:at], *taught[at + 1 :]]


def _fits(engine: Engine, cohort: Sequence[Sequence[Example]]) -> list[plora.Adapter]:
    with engine.keeping():
        made = plora.fit(engine.base, engine.basis, cohort, engine=engine)
    return [each.adapter for each in made if isinstance(each, Fitted)]


def _log_odds(speaker: plora.Speaker, text: str, adapters: Sequence[plora.Adapter]) -> list[float]:
    """Of the first adapter's answer, under each."""
    answers = speaker.classify([(text, adapter) for adapter in adapters])
    chances = [each.probabilities[answers[0].answer] for each in answers]
    return [math.log(chance) - math.log1p(-min(chance, 1 - 1e-7)) for chance in chances]
