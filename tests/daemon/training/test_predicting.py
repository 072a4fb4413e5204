"""Requests that go through the model together: one that is wrong, or slow, costs no other its answer."""

import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import plora
from daemon.adapter_cache import AdapterCache
from daemon.messages import WorkFailed
from daemon.models import Models
from daemon.predict_messages import Carried, GenerateRequest, Named, Piece, PredictAnswer, PredictRequest, Row, Sampling
from daemon.predicting import generate, predict
from tests.plora import toys

TEXT = "the soup was good"
LEASE_S, LIMIT_S = 0.1, 30.0


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> plora.BaseModel:
    folder: Path = tmp_path_factory.mktemp("gpt2")
    toys.gpt2().save_pretrained(folder)
    toys.tokenizer(framed=False).save_pretrained(folder)
    return plora.load(str(folder), kind=plora.Kind.CAUSAL_LM)


@pytest.fixture(scope="module")
def bases(base) -> list[plora.Basis]:
    fresh = toys.basis_on(base.module, base.fingerprint, labels=())
    return [toys.loud(fresh, seed) for seed in (1, 2)]


@pytest.fixture
def models(base, bases) -> Iterator[Models]:
    made = Models(base)
    made.adapters = AdapterCache(LEASE_S)
    for each in bases:
        made.give(plora.dumps(each))
        made.speaker(each.fingerprint)
    yield made
    end, pause = time.monotonic() + LIMIT_S, threading.Event()
    while len(made.adapters):  # no thread is amid a tensor when the process ends
        assert time.monotonic() < end
        pause.wait(0.01)


def carried(basis: plora.Basis, user: str, scale: float = 1.0) -> Carried:
    return Carried(Named(user, 1, user), plora.dumps(plora.Adapter.of(basis, scale * toys.vectors(1)[0])))


def asked(basis: plora.Basis, each: Carried, rows: int = 1) -> PredictRequest:
    return PredictRequest(basis.fingerprint, (Row(TEXT, each.name),) * rows, (each,), 40)


def test_who_waits_for_a_slow_pass_keeps_their_adapter_beyond_its_lease(models, bases):
    first, second = bases
    requests = [asked(first, carried(first, "ann"), 300), asked(second, carried(second, "bob"))]
    [alone] = predict(models, requests[1:])
    assert isinstance(alone, PredictAnswer)
    assert predict(models, requests)[1] == alone


def test_one_wrong_request_fails_alone_however_long_the_others_take(models, bases):
    first, second = bases
    foreign = carried(second, "mal")
    models.adapters.put(foreign.name, plora.loads_adapter(foreign.content))
    wrong = PredictRequest(first.fingerprint, (Row(TEXT, foreign.name),))
    right = [asked(first, carried(first, f"user {at}"), 30) for at in range(9)]
    answers = predict(models, [wrong, *right])
    assert answers[0] == WorkFailed("WrongBasis")
    assert all(isinstance(each, PredictAnswer) for each in answers[1:])


def test_a_text_without_numbers_ends_alone_and_says_so(models, bases):
    basis, _ = bases
    broken = plora.dumps(plora.Adapter.of(basis, torch.full((8,), 3e38)))
    heard = {user: queue.SimpleQueue[Piece | WorkFailed]() for user in ("ann", "mal")}
    for user, each in (("ann", carried(basis, "ann")), ("mal", Carried(Named("mal", 1, "mal"), broken))):
        sampling = Sampling(12, temperature=1.0, seed=3)
        generate(models, GenerateRequest(basis.fingerprint, TEXT, each.name, (each,), sampling), heard[user].put)
    assert heard["mal"].get(timeout=LIMIT_S) == WorkFailed("FloatingPointError")
    ended = False
    while not ended:
        piece = heard["ann"].get(timeout=LIMIT_S)
        assert isinstance(piece, Piece)
        ended = piece.finish is not None
