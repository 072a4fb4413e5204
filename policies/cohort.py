"""Which runs are fitted together."""

from collections.abc import Sequence
from dataclasses import dataclass

from policies.facts import distinct, whole


@dataclass(frozen=True, slots=True)
class Load:
    """What one run weighs: the tokens of all its examples."""

    run: int
    tokens: int

    def __post_init__(self) -> None:
        whole("Load.run", self.run)
        whole("Load.tokens", self.tokens, least=1)


def pack(loads: Sequence[Load], token_budget: int, max_users: int) -> tuple[tuple[int, ...], ...]:
    """Put every run into the first cohort with room for it, and open a new cohort where none has.

    Runs keep their given order inside a cohort, and cohorts the order of their first runs. A later run may join an
    earlier cohort, which delays nobody. A run over `token_budget` gets a cohort alone: slow perhaps, but never
    starved.
    """
    whole("token_budget", token_budget, least=1)
    whole("max_users", max_users, least=1)
    distinct("Load.run", [load.run for load in loads])
    cohorts: list[list[int]] = []
    room: list[int] = []  # tokens left; nothing fits below 1
    for load in loads:
        fitting = (i for i, tokens in enumerate(room) if load.tokens <= tokens and len(cohorts[i]) < max_users)
        i = next(fitting, len(cohorts))
        if i == len(cohorts):
            cohorts.append([])
            room.append(token_budget)
        cohorts[i].append(load.run)
        room[i] -= load.tokens
    return tuple(tuple(cohort) for cohort in cohorts)
