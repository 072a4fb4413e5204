"""Fitting: the vectors of a cohort of users in common passes, each exactly as if its user were alone."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from . import adam, newton, noised
from .basemodel import BaseModel
from .basis import Basis
from .engine import Engine
from .errors import UnknownLabel, WrongBasis
from .evidence import mask_of
from .examples import Example, Row, encode_all
from .outcome import FitFailed, FitFailure, FitSettings, Fitted, Optimizer
from .passes import Passes, with_room

WINDOW_TOKENS = 131_072
"""Tokens of the users who are fitted at a time: what bounds memory, however large the cohort."""

WINDOW_USERS = 256


def fit(
    base: BaseModel,
    basis: Basis,
    cohort: Sequence[Sequence[Example]],
    settings: FitSettings | None = None,
    *,
    engine: Engine | None = None,
    judged: Sequence[Sequence[int]] | None = None,
) -> list[Fitted | FitFailed]:
    """Fit one vector for each user's examples; only vectors change. One outcome for each user, in order.

    `judged` says for each user which of the examples are evidence of what the vector is worth: those that the Basis was
    not trained on. None: all. An `engine` made before for this Basis saves making one. Raises WrongBasis where it is of
    another.
    """
    chosen = settings or FitSettings()
    made = checked(engine, basis) or Engine(base, basis, chosen.precision)
    outcomes: list[Fitted | FitFailed] = []
    for window in windows(base, basis, cohort):
        users = slice(len(outcomes), len(outcomes) + len(window.users))
        outcomes += _fit_window(made, window, chosen, None if judged is None else judged[users])
    return outcomes


def checked(engine: Engine | None, basis: Basis) -> Engine | None:
    """The engine, if it is of `basis`. Raises WrongBasis."""
    if engine is not None and engine.basis.fingerprint != basis.fingerprint:
        raise WrongBasis(basis.fingerprint, engine.basis.fingerprint)
    return engine


@dataclass(frozen=True, slots=True)
class Window:
    """Users fitted at a time: the rows of each, or why there are none."""

    users: tuple[tuple[Row, ...] | FitFailed, ...]

    @property
    def fitted(self) -> list[tuple[Row, ...]]:
        """The rows of those who can be fitted."""
        return [rows for rows in self.users if not isinstance(rows, FitFailed)]


def windows(
    base: BaseModel, basis: Basis, cohort: Sequence[Sequence[Example]], tokens: int = WINDOW_TOKENS
) -> Iterator[Window]:
    """The cohort in windows; the next one is tokenised while the caller works on this one."""
    with ThreadPoolExecutor(1) as ahead:
        waiting = None
        for start in range(0, len(cohort), WINDOW_USERS):
            part = cohort[start : start + WINDOW_USERS]
            coming = ahead.submit(_encode, base, basis, part)
            if waiting is not None:
                yield from _split(waiting.result(), tokens)
            waiting = coming
        if waiting is not None:
            yield from _split(waiting.result(), tokens)


def _encode(base: BaseModel, basis: Basis, cohort: Sequence[Sequence[Example]]) -> list[tuple[Row, ...] | FitFailed]:
    return [encoded(base, basis, examples) for examples in cohort]


def encoded(base: BaseModel, basis: Basis, examples: Sequence[Example]) -> tuple[Row, ...] | FitFailed:
    """A user's rows."""
    if not examples:
        return FitFailed(FitFailure.NO_EXAMPLES)
    try:
        return tuple(encode_all(base, basis, examples))
    except UnknownLabel:
        return FitFailed(FitFailure.UNKNOWN_LABEL)


def _split(users: Sequence[tuple[Row, ...] | FitFailed], most: int) -> Iterator[Window]:
    """Windows within the token bound; a user over it is a window alone."""
    part: list[tuple[Row, ...] | FitFailed] = []
    tokens = 0
    for rows in users:
        size = 0 if isinstance(rows, FitFailed) else sum(len(row.ids) for row in rows)
        if part and tokens + size > most:
            yield Window(tuple(part))
            part, tokens = [], 0
        part.append(rows)
        tokens += size
    if part:
        yield Window(tuple(part))


def _fit_window(
    engine: Engine, window: Window, settings: FitSettings, judged: Sequence[Sequence[int]] | None
) -> list[Fitted | FitFailed]:
    users = window.fitted
    if judged is not None:
        pairs = zip(window.users, judged, strict=True)
        judged = [chosen for rows, chosen in pairs if not isinstance(rows, FitFailed)]

    def descend(run: Passes, counts: list[int]) -> list[Fitted | FitFailed]:
        if settings.privacy is not None:
            return noised.descend(run, counts, settings, settings.privacy)
        if settings.optimizer is Optimizer.ADAM:
            return adam.descend(run, counts, settings)
        return newton.descend(run, counts, settings, mask_of(counts, judged))

    found = iter(with_room(engine, users, descend) if users else ())
    return [rows if isinstance(rows, FitFailed) else next(found) for rows in window.users]
