"""From predictions to answers: as sure as they should be, held where nobody should rely on them, and with a name."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from daemon.answer_token import Answered, AnswerTokens, new_id
from daemon.calibration import Calibrations
from daemon.events import examples_of
from daemon.predict_messages import Labelled, Prediction
from daemon.predictor import Asked, Predicted, Predictor
from policies import Policies
from policies.hold import Answerable, Doubt, Hold
from storage import Store

TAUGHT = 64
"""Of a user's own examples, the newest, among which an answer's reasons are looked for."""


@dataclass(frozen=True, slots=True)
class Question:
    """One text to be answered as one user; `why` asks what moved the answer."""

    user: str = field(repr=False)
    text: str = field(repr=False)
    why: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """One answer: `hold` says why it is held, and then no label is given; `token` is what it is called."""

    predicted: Predicted
    prediction: Prediction = field(repr=False)
    hold: Hold | None
    token: str = field(repr=False)
    taught: tuple[Labelled, ...] = field(default=(), repr=False)


class Answering:
    """Answers questions of a tenant's host. Thread-safe."""

    def __init__(
        self,
        store: Store,
        predictor: Predictor,
        policies: Policies,
        doubt: Doubt,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._store, self._predictor, self._policies, self._doubt, self._now = store, predictor, policies, doubt, now
        self._calibrations, self.tokens = Calibrations(store), AnswerTokens(store.answer_key)

    def answer(self, tenant: str, questions: Sequence[Question]) -> list[Given]:
        """One answer to each, in order. Raises NoBasis, or a TrainerError."""
        taught = {each.user: self._taught(tenant, each.user) for each in questions if each.why}
        asked = [Asked(each.user, each.text, taught[each.user] if each.why else None) for each in questions]
        now = self._now()
        return [
            self._given(tenant, each, predicted, now)
            for each, predicted in zip(asked, self._predictor.predict(tenant, asked), strict=True)
        ]

    def _given(self, tenant: str, asked: Asked, predicted: Predicted, now: datetime) -> Given:
        prediction, speaking = predicted.prediction, predicted.speaking
        hold: Hold | None = None
        if prediction.probabilities:
            prediction = self._calibrated(tenant, speaking.basis, prediction)
            decided = self._policies.consider(Answerable(prediction.probabilities), self._doubt)
            hold = decided if isinstance(decided, Hold) else None
        answered = Answered(
            id=new_id(),
            user=speaking.user,
            version=speaking.version,
            digest=speaking.digest,
            rollout=speaking.rollout,
            arm=speaking.arm,
            label=prediction.label,
            held=hold is not None,
            at=now,
            text=asked.text if hold is not None else None,
        )
        return Given(predicted, prediction, hold, self.tokens.seal(tenant, answered), asked.taught or ())

    def _calibrated(self, tenant: str, basis: str, prediction: Prediction) -> Prediction:
        chances = self._calibrations.of(tenant, basis).of(prediction.probabilities)
        label = prediction.label
        return Prediction(label, None, chances[label] if label else max(chances.values()), chances, prediction.why)

    def _taught(self, tenant: str, user: str) -> tuple[Labelled, ...]:
        """What the version that answers can have learnt from: what came before it was made."""
        speaking = self._predictor.speakers(tenant, [user])[user]
        if speaking.user is None or speaking.name is None:
            return ()
        made = [each for each in self._store.versions(speaking.user) if each.version == speaking.version]
        if not made:
            return ()
        events = [each for each in self._store.events(speaking.user) if each.seq <= made[0].watermark_seq]
        return tuple((each.text, each.label) for each in examples_of(events)[-TAUGHT:])
