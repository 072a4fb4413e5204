"""Corrections of answers: what a person says was right becomes an Event of the User, and an outcome of the answer."""

from dataclasses import dataclass
from datetime import datetime

from daemon.answer_token import AnswerTokens
from daemon.errors import DaemonError
from daemon.events import EventType, Message, check_label, teaching
from daemon.outcomes import Outcomes
from daemon.recording import Outcome, Recording
from storage import Store, UnknownUser

SOURCE = "plora/answers"
"""Of the events: with the answer's own id, so that correcting an answer twice is one event."""


class NoText(DaemonError):
    """The answer was given, not held, so its text did not come along."""

    def __str__(self) -> str:
        return "send the text that was answered too: only the token of a held answer brings it along"


class NobodysAnswer(DaemonError):
    """The answer was for nobody we know, so nobody can learn from its correction."""

    def __str__(self) -> str:
        return "this answer was for no user we know: record events of theirs, then ask again"


@dataclass(frozen=True, slots=True)
class Corrections:
    """Takes corrections of one tenant's answers."""

    store: Store
    tenant: str
    tokens: AnswerTokens
    recording: Recording

    def correct(self, token: str, label: str, text: str | None, now: datetime) -> Outcome:
        """Record the right label. Raises WrongAnswerToken, NoText, NobodysAnswer, UnknownUser or an EventRefused."""
        answered = self.tokens.open(self.tenant, token, now)
        if answered.user is None:
            raise NobodysAnswer
        said = answered.text if text is None else text
        if said is None:
            raise NoText
        found = self.store.user_by_id(answered.user)
        if found is None or found.tenant != self.tenant:
            raise UnknownUser(answered.user)
        message = Message(
            type=EventType.CORRECTION,
            source=SOURCE,
            id=answered.id,
            user=self.store.external_id(answered.user),
            time=None,
            content=teaching(said, label),
            label=label,
        )
        check_label(message, self.recording.labels())
        [outcome] = self.recording.record([message], now)
        if outcome.accepted and answered.label is not None:
            value = 1.0 if label == answered.label else 0.0
            Outcomes(self.store, self.tokens).record(self.tenant, [(token, value)], now)
        return outcome
