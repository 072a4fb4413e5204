"""What a Trainer does with a sealed request. Knows no Ray: an in-process trainer runs the very same functions.

A Trainer keeps a BaseModel and the Bases it was last given, and nothing of any User. Vectors it read or made are zeroed
before it answers; Python gives no way to zero its strings, so texts live until the request's values are collected.
"""

import json
import math
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import plora
from daemon.clock import monotonic
from daemon.messages import (
    Answer,
    BasisMissing,
    BasisRequest,
    BasisTrained,
    FitAnswer,
    FitRequest,
    Labelled,
    Member,
    MemberFailed,
    MemberFitted,
    PredictAnswer,
    Prediction,
    PredictRequest,
    Request,
    WorkFailed,
    decode_request,
    encode_answer,
)
from daemon.transport import Body, Head, Purpose, seal_answer, unseal_request
from policies.promotion import Evidence
from storage.sealing import Unreadable

BASES_KEPT = 4


class Models:
    """A Trainer's BaseModel and the Bases it was last given, by fingerprint."""

    def __init__(self, base: plora.BaseModel, keep: int = BASES_KEPT) -> None:
        self.base = base
        self._keep = keep
        self._bases: OrderedDict[str, plora.Basis] = OrderedDict()
        self._lock = threading.Lock()

    def give(self, content: bytes) -> None:
        """Hold the Basis in `content`. Raises plora.MalformedBasis."""
        basis = plora.loads_basis(content)
        with self._lock:
            self._bases[basis.fingerprint] = basis
            while len(self._bases) > self._keep:
                self._bases.popitem(last=False)

    def basis(self, fingerprint: str) -> plora.Basis | None:
        """The Basis, or None if it was never given or given up since."""
        with self._lock:
            if fingerprint in self._bases:
                self._bases.move_to_end(fingerprint)
            return self._bases.get(fingerprint)


def work(models: Models, key: bytes, envelope: bytes) -> bytes:
    """Unseal one request, do it, and seal the answer to it.

    Raises Unreadable for what was not sealed with `key` as a request. Every other failure is an answer: WorkFailed,
    which carries the error's class name and never its text.
    """
    head, body = unseal_request(key, envelope)
    document, attachment = encode_answer(_answer(models, head, body))
    return seal_answer(key, head, Body(document, attachment))


def fit_cohort(models: Models, request: FitRequest) -> FitAnswer | BasisMissing:
    """Fit every member in common passes, then score them in common passes on what each holds out."""
    basis = models.basis(request.basis)
    if basis is None:
        return BasisMissing(request.basis)
    places = [_place(basis, member) for member in request.members]
    begun = monotonic()
    fits = plora.fit(models.base, basis, [place.learn for place in places], _fit_settings(request))
    fitted = monotonic()
    try:
        settled = _settle(models.base, basis, places, fits)
    finally:
        _zero(places, fits)
    return FitAnswer(settled, fitted - begun, monotonic() - fitted)


def train_basis(models: Models, request: BasisRequest) -> BasisTrained:
    """Train a Basis on a population and keep it at hand."""
    population = [_examples(user) for user in request.population]
    trained = plora.train_population(models.base, population, _population_settings(request), None)
    content = plora.dumps(trained.basis)
    models.give(content)
    return BasisTrained(trained.basis.fingerprint, trained.basis.base, trained.basis.labels, _report(trained), content)


def predict(models: Models, request: PredictRequest) -> PredictAnswer | BasisMissing:
    """Answer every row, each with its own adapter, in one batch."""
    basis = models.basis(request.basis)
    if basis is None:
        return BasisMissing(request.basis)
    with _adapters([row.adapter for row in request.rows]) as adapters:
        answers = plora.predict(models.base, basis, [row.text for row in request.rows], adapters)
    return PredictAnswer(tuple(_prediction(basis.kind, answer) for answer in answers))


@dataclass(frozen=True, slots=True)
class _Place:
    """A member as the library reads it."""

    run: int
    learn: list[plora.Example] = field(repr=False)
    held_out: list[plora.Example] = field(repr=False)
    current: plora.Adapter | None
    unknown_labels: int


def _answer(models: Models, head: Head, body: Body) -> Answer:
    try:
        request = decode_request(body.document)
        if body.attachment:
            models.give(body.attachment)
        return _perform(models, head.purpose, request)
    except Exception as error:  # noqa: BLE001 - around a request: its text may hold content and goes nowhere
        return WorkFailed(type(error).__name__)


def _perform(models: Models, purpose: Purpose, request: Request) -> Answer:
    match purpose, request:
        case Purpose.FIT, FitRequest():
            return fit_cohort(models, request)
        case Purpose.BASIS, BasisRequest():
            return train_basis(models, request)
        case Purpose.PREDICT, PredictRequest():
            return predict(models, request)
        case _:
            raise Unreadable("the request")


def _place(basis: plora.Basis, member: Member) -> _Place:
    learn, held_out = _examples(member.learn), _examples(member.held_out)
    known_learn, known_held_out = _known(basis, learn), _known(basis, held_out)
    unknown = len(learn) + len(held_out) - len(known_learn) - len(known_held_out)
    current = plora.loads_adapter(member.current) if member.current else None
    comparable = current if current is not None and current.basis == basis.fingerprint else None
    return _Place(member.run, known_learn, known_held_out, comparable, unknown)


def _known(basis: plora.Basis, examples: list[plora.Example]) -> list[plora.Example]:
    """What this Basis can learn from: it may be older than a label, and one new label must not stop the others."""
    if basis.kind is plora.Kind.CAUSAL_LM:
        return examples
    return [example for example in examples if example.target in basis.labels]


def _settle(
    base: plora.BaseModel, basis: plora.Basis, places: Sequence[_Place], fits: Sequence[plora.Fitted | plora.FitFailed]
) -> tuple[MemberFitted | MemberFailed, ...]:
    """Each member's outcome, in order."""
    judged: list[plora.Judged] = []
    for place, fit in zip(places, fits, strict=True):
        if isinstance(fit, plora.Fitted) and place.held_out:
            judged += [plora.Judged(adapter, place.learn, place.held_out) for adapter in _contenders(place, fit)]
    scores = iter(plora.score(base, basis, judged) if judged else ())
    return tuple(_outcome(place, fit, scores) for place, fit in zip(places, fits, strict=True))


def _contenders(place: _Place, fit: plora.Fitted) -> list[plora.Adapter]:
    return [fit.adapter] if place.current is None else [fit.adapter, place.current]


def _outcome(
    place: _Place, fit: plora.Fitted | plora.FitFailed, scores: Iterator[plora.Scores]
) -> MemberFitted | MemberFailed:
    """Takes as many of `scores` as the member has contenders."""
    if isinstance(fit, plora.FitFailed):
        return MemberFailed(place.run, fit.reason.value)
    if not place.held_out:
        return MemberFailed(place.run, "nothing_held_out")
    own = next(scores)
    evidence = _evidence(own)
    current = None if place.current is None else _evidence(next(scores))
    if not evidence.is_finite or (current is not None and not current.is_finite):
        return MemberFailed(place.run, "not_finite")  # JSON has no word for it
    return MemberFitted(
        run=place.run,
        base=fit.adapter.base,
        adapter=plora.dumps(fit.adapter),
        scores=own.to_json(),
        evidence=evidence,
        current=current,
        unknown_labels=place.unknown_labels,
    )


def _zero(places: Sequence[_Place], fits: Sequence[plora.Fitted | plora.FitFailed]) -> None:
    for place, fit in zip(places, fits, strict=True):
        if place.current is not None:
            place.current.vector.zero_()
        if isinstance(fit, plora.Fitted):
            fit.adapter.vector.zero_()


def _evidence(scores: plora.Scores) -> Evidence:
    return Evidence(
        examples=scores.examples,
        generic_nll=scores.generic.nll,
        label_prior_nll=scores.label_prior.nll,
        wrong_user_nll=scores.wrong_user.nll,
        personal_nll=scores.personal.nll,
        gain_se=scores.gain_se if scores.examples > 1 else 0.0,  # one example has no spread; the bar asks for more
        generic_accuracy=scores.generic.accuracy,
        personal_accuracy=scores.personal.accuracy,
    )


@contextmanager
def _adapters(contents: Sequence[bytes | None]) -> Iterator[list[plora.Adapter | None]]:
    """The adapters in `contents`, zeroed at the end of the `with`. Equal bytes are read once."""
    read = {content: plora.loads_adapter(content) for content in set(contents) if content}
    try:
        yield [read[content] if content else None for content in contents]
    finally:
        for adapter in read.values():
            adapter.vector.zero_()


def _prediction(kind: plora.Kind, answer: plora.Answer) -> Prediction:
    label, text = (answer.answer, None) if kind is plora.Kind.CLASSIFICATION else (None, answer.answer)
    confidence = answer.confidence if math.isfinite(answer.confidence) else 0.0
    return Prediction(label, text, confidence, dict(answer.probabilities))


def _fit_settings(request: FitRequest) -> plora.FitSettings:
    chosen = plora.FitSettings()
    if request.steps is not None:
        chosen = replace(chosen, steps=request.steps)
    if request.learning_rate is not None:
        chosen = replace(chosen, rate=request.learning_rate)
    return chosen


def _population_settings(request: BasisRequest) -> plora.PopulationSettings:
    chosen = plora.PopulationSettings()
    if request.dimensions is not None:
        chosen = replace(chosen, dimensions=request.dimensions)
    if request.rank is not None:
        chosen = replace(chosen, rank=request.rank)
    if request.epochs is not None:
        chosen = replace(chosen, epochs=request.epochs)
    if request.learning_rate is not None:
        chosen = replace(chosen, shared_rate=request.learning_rate)
    return chosen


def _report(trained: plora.Population) -> str:
    return json.dumps({"loss": [round(loss, 6) for loss in trained.history], "labels": len(trained.basis.labels)})


def _examples(pairs: Sequence[Labelled]) -> list[plora.Example]:
    return [plora.Example(text, target) for text, target in pairs]
