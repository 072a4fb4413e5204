"""Learning how sure the answers on a new Basis should be, where it was trained."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import plora

USERS, LEAST, MOST = 48, 6, 64
"""Users who are looked at, and how many examples each must have and may give."""


def learn(
    base: plora.BaseModel, basis: plora.Basis, population: Iterable[Sequence[plora.Example]]
) -> plora.Calibration:
    """From users' answers to the later half of their examples, by vectors that the earlier half gives.

    The Basis has seen these examples, their adapters have not: what is learnt is how sure adapters are, and misses what
    the Basis is too sure of. One that changes nothing where nobody has enough examples.
    """
    if basis.kind is not plora.Kind.CLASSIFICATION:
        return plora.Calibration()
    chosen = list(islice(_with_enough(population), USERS))
    if not chosen:
        return plora.Calibration()
    halves = [(user[: len(user) // 2], user[len(user) // 2 :]) for user in chosen]
    speaker = plora.Speaker(base, basis)
    fitted = plora.fit(base, basis, [learn for learn, _ in halves], engine=speaker.engine)
    rows, right = list[tuple[str, plora.User]](), list[int]()
    for found, (_, asked) in zip(fitted, halves, strict=True):
        if isinstance(found, plora.Fitted):
            rows += [(each.text, found.adapter) for each in asked]
            right += [basis.labels.index(each.target) for each in asked]
    answers = speaker.classify(rows)
    learnt = plora.calibrate(
        [(tuple(each.probabilities.values()), label) for each, label in zip(answers, right, strict=True)]
    )
    return plora.Calibration(max(1.0, learnt.temperature), learnt.answers)  # seen examples flatter


def _with_enough(population: Iterable[Sequence[plora.Example]]) -> Iterator[Sequence[plora.Example]]:
    for user in population:
        if len(user) >= LEAST:
            yield user[:MOST]
