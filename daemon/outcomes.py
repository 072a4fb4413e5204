"""What became of answers: who says so sends the answer's token, which names the version and the arm that gave it."""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum

from daemon.answer_token import Answered, AnswerTokens, WrongAnswerToken
from storage import Counted, NewOutcome, Store


class Told(Enum):
    """What became of one outcome."""

    STORED = "stored"
    DUPLICATE = "duplicate"  # this answer has its outcome; the first one counts
    FORGOTTEN = "forgotten"  # nobody is left whose answer it was
    NOBODYS = "ignored"  # the answer was for nobody we know


TOLD = {Counted.STORED: Told.STORED, Counted.DUPLICATE: Told.DUPLICATE, Counted.FORGOTTEN: Told.FORGOTTEN}


class Outcomes:
    """Records outcomes, each answer once. Thread-safe."""

    def __init__(self, store: Store, tokens: AnswerTokens) -> None:
        self._store, self._tokens = store, tokens

    def record(self, tenant: str, told: Sequence[tuple[str, float]], now: datetime) -> list[Told | WrongAnswerToken]:
        """Count each (token, value from 0 to 1) in one transaction; what became of each, in order.

        The errors among them are returned, not raised.
        """
        results: list[Told | WrongAnswerToken] = []
        wanted: list[NewOutcome] = []
        places: list[int] = []
        for place, (token, value) in enumerate(told):
            opened = self._opened(tenant, token, now)
            results.append(opened if isinstance(opened, WrongAnswerToken) else Told.NOBODYS)
            if isinstance(opened, Answered) and opened.user is not None:
                places.append(place)
                wanted.append(NewOutcome(opened.id, opened.user, opened.version, value, opened.rollout, opened.arm))
        counted = self._store.record_outcomes(tenant, wanted, now) if wanted else []
        for place, each in zip(places, counted, strict=True):
            results[place] = TOLD[each]
        return results

    def _opened(self, tenant: str, token: str, now: datetime) -> Answered | WrongAnswerToken:
        try:
            return self._tokens.open(tenant, token, now)
        except WrongAnswerToken as wrong:
            return wrong
