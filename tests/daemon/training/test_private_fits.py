"""Vectors fitted under a promise: judged on what is held out, told with the promise, and what versions add up to."""

import json
from dataclasses import replace

import pytest

import plora
from daemon.choices import FitChoices
from daemon.cohorts import promise_of, promised
from daemon.learnt import loads
from daemon.messages import (
    FitAnswer,
    FitRequest,
    Member,
    MemberFailed,
    MemberFitted,
    decode_request,
    encode_request,
)
from daemon.promises import Promise
from daemon.settings import InvalidSetting, load
from daemon.verdict import spent_of
from daemon.work import fit_cohort

PROMISE = Promise(8.0, 1e-5, 1.0)
ASKED = FitChoices(epsilon=8.0)


class Careless:
    """A trainer of a release that knows no promises."""

    def __init__(self, real) -> None:
        self.real = real

    def fit(self, request, basis) -> FitAnswer:
        return self.real.fit(replace(request, privacy=None), basis)

    def __getattr__(self, name: str):
        return getattr(self.real, name)


def documents(training, user: str) -> list[dict]:
    return [json.loads(version.scores) for version in training.store.versions(user)]


def test_versions_are_judged_on_what_is_held_out_and_say_what_was_promised(training, users, taste):
    private = training.with_trainer(training.trainer, fit=ASKED)
    private.work()
    told = [documents(private, user)[-1] for user in users]
    assert len(told) == len(users)
    for each in told:
        assert each["privacy"]["epsilon"] == 8.0
        assert each["privacy"]["total"] == pytest.approx(8.0, rel=1e-6)
        assert each["label_bias"] is None
        assert each["mode"] == "full"
        assert 4 <= each["examples"] < 16  # held out: not each by what the others give
    learnt = [found for user in users if (found := private.store.materials([user])[user].statistics) is not None]
    assert all(loads(found).statistics == b"" for found in learnt)

    private.record("late-0", taste(0, 30, seed=5), first=100)
    private.clock.advance(120)
    private.work()
    again = documents(private, users[0])
    assert len(again) == 2
    privacy = plora.Privacy(8.0)
    assert again[1]["privacy"]["total"] == pytest.approx(privacy.after(privacy.mu**2), rel=1e-6)
    assert again[1]["privacy"]["total"] > 11


def test_after_a_version_without_a_promise_nothing_is_promised_of_all_together(training, users, taste):
    training.work()
    assert documents(training, users[0])[-1]["privacy"] is None
    training.record("late-0", taste(0, 30, seed=5), first=100)
    training.clock.advance(120)
    private = training.with_trainer(training.trainer, fit=ASKED)
    private.work()
    told = documents(private, users[0])[-1]["privacy"]
    assert told == {"epsilon": 8.0, "delta": 1e-5, "clip": 1.0, "total": None, "spent": None}


def test_a_trainer_that_does_not_keep_the_promise_makes_no_version(training, users):
    careless = training.with_trainer(Careless(training.trainer), fit=ASKED)
    careless.work()
    assert [documents(careless, user) for user in users] == [[]] * len(users)
    assert careless.count("plora_runs_total", outcome="succeeded", code="beats_generic") == 0


def test_what_was_kept_must_be_what_was_wanted(models, basis, taste):
    pairs = tuple(taste(1, 16, seed=2))
    request = FitRequest(basis.fingerprint, (Member(1, 1, pairs[:11], pairs[11:]),), privacy=PROMISE)
    assert decode_request(encode_request(request)) == request
    (kept,) = fit_cohort(models, request).outcomes
    (plain,) = fit_cohort(models, replace(request, privacy=None)).outcomes
    assert isinstance(kept, MemberFitted)
    assert (kept.statistics, kept.label_bias) == (None, None)
    assert promised(kept, PROMISE) is kept
    assert promised(plain, None) is plain
    for outcome, wanted in ((plain, PROMISE), (kept, replace(PROMISE, epsilon=1.0))):
        assert promised(outcome, wanted) == MemberFailed(1, "without_privacy")


def test_statistics_of_before_are_not_gone_on_from(models, basis, taste):
    pairs = tuple(taste(1, 20, seed=2))
    (before,) = fit_cohort(models, FitRequest(basis.fingerprint, (Member(1, 1, pairs[:11]),))).outcomes
    grown = Member(1, 1, pairs[:14], pairs[14:], statistics=before.statistics, covered=11)
    (after,) = fit_cohort(models, FitRequest(basis.fingerprint, (grown,), privacy=PROMISE)).outcomes
    assert after.mode.value == "full"
    assert after.privacy.promise == PROMISE


def test_a_document_without_figures_of_privacy_bounds_nothing():
    assert spent_of(None) == 0.0
    for document in ("{}", '{"privacy": null}', '{"privacy": {"spent": null}}', '{"privacy": "much"}'):
        assert spent_of(document) is None
    assert spent_of('{"privacy": {"spent": 0.5}}') == 0.5


def test_it_is_off_unless_asked_for_and_a_promise_that_cannot_be_kept_is_refused(tmp_path):
    own = {"PLORA_DATA_DIR": str(tmp_path / "data"), "PLORA_KEYS_DIR": str(tmp_path / "keys")}
    assert promise_of(load(own).fit) is None
    asked = load(own | {"PLORA_FIT_EPSILON": "4", "PLORA_FIT_DELTA": "1e-6", "PLORA_FIT_CLIP": "0.5"})
    assert promise_of(asked.fit) == Promise(4.0, 1e-6, 0.5)
    for wrong in (
        {"PLORA_FIT_EPSILON": "0"},
        {"PLORA_FIT_EPSILON": "101"},
        {"PLORA_FIT_DELTA": "0.5"},
        {"PLORA_FIT_CLIP": "0"},
        {"PLORA_FIT_EPSILON": "4", "PLORA_FIT_OPTIMIZER": "adam"},
        {"PLORA_TRAINER_RECYCLE": "-1"},
    ):
        with pytest.raises(InvalidSetting):
            load(own | wrong)
