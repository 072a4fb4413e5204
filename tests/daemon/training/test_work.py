"""What a Trainer does with sealed bytes, and what it refuses."""

import pickle
from dataclasses import replace

import pytest

import plora
from daemon.messages import (
    BasisMissing,
    FitAnswer,
    FitRequest,
    Member,
    MemberFailed,
    MemberFitted,
    WorkFailed,
    decode_answer,
    encode_request,
)
from daemon.predict_messages import Carried, Named, PredictAnswer, PredictRequest, Refused, Row
from daemon.predicting import predict
from daemon.transport import Body, Purpose, head_of, seal_request, unseal_answer
from daemon.verdict import evidence_of
from daemon.work import Models, fit_cohort, work
from storage import Unreadable

KEY = bytes(range(32))
CANARY = "canary"


def member(training_taste, user: int, run: int | None = None, **more: object) -> Member:
    pairs = tuple(training_taste(user, 16, seed=2))
    return Member(user if run is None else run, 1, pairs[:11], **more)


def ask(models: Models, purpose: Purpose, request, attachment: bytes = b"", key: bytes = KEY):
    head = head_of(purpose)
    sealed = work(models, key, seal_request(KEY, head, Body(encode_request(request), attachment)))
    body = unseal_answer(KEY, head, sealed)
    return decode_answer(body.document, body.attachment)


@pytest.fixture
def fresh(models: Models) -> Models:
    """A replica that holds no Basis yet."""
    return Models(models.base, keep=2)


def test_a_replica_without_the_basis_asks_for_it_once(fresh, basis, taste):
    request = FitRequest(basis.fingerprint, (member(taste, 0),))
    assert ask(fresh, Purpose.FIT, request) == BasisMissing(basis.fingerprint)
    assert isinstance(ask(fresh, Purpose.FIT, request, basis.content), FitAnswer)
    assert isinstance(ask(fresh, Purpose.FIT, request), FitAnswer)


def test_a_replica_keeps_only_the_bases_used_last(fresh, basis, basis_of, taste):
    small = [
        basis_of(fresh, [taste(user, 8) for user in range(2)], dimensions=4, epochs=1, rank=rank) for rank in (1, 2, 3)
    ]
    held = [fresh.basis(made.fingerprint) is not None for made in small]
    assert held == [False, True, True]


def test_a_cohort_is_fitted_and_scored_member_by_member(models, basis, taste):
    answer = fit_cohort(
        models, FitRequest(basis.fingerprint, tuple(member(taste, user, 10 + user) for user in range(4)))
    )
    assert [outcome.run for outcome in answer.outcomes] == [10, 11, 12, 13]
    for outcome in answer.outcomes:
        assert isinstance(outcome, MemberFitted)
        told = evidence_of(outcome.whole.scores)
        assert told.examples == 11
        assert told.personal_nll < told.generic_nll
        for offer in (outcome.whole, outcome.label_bias):
            assert plora.loads_adapter(offer.adapter).basis == basis.fingerprint
            assert len(offer.adapter) <= 1900
        assert outcome.whole.moved == outcome.whole.from_generic > 0


def test_a_member_gets_the_same_alone_and_among_others(models, basis, taste):
    members = tuple(member(taste, user) for user in range(4))
    together = fit_cohort(models, FitRequest(basis.fingerprint, members)).outcomes[2]
    alone = fit_cohort(models, FitRequest(basis.fingerprint, members[2:3])).outcomes[0]
    assert together == alone


def test_a_failing_member_leaves_the_others_alone(models, basis, taste):
    bad = Member(7, 1, (("the red shoe", "never heard"),))
    answer = fit_cohort(models, FitRequest(basis.fingerprint, (bad, member(taste, 1))))
    assert answer.outcomes[0] == MemberFailed(7, "no_examples")
    assert isinstance(answer.outcomes[1], MemberFitted)
    blind = Member(8, 1, (("the red shoe", "good"),), (("the blue shoe", "never heard"),))
    request = FitRequest(basis.fingerprint, (blind,), optimizer="adam")
    assert fit_cohort(models, request).outcomes == (MemberFailed(8, "nothing_held_out"),)


def test_only_what_is_named_is_evidence_and_all_is_learnt_from(models, basis, taste):
    alike = member(taste, 1, judged=(0, 3, 7))
    some, every = fit_cohort(models, FitRequest(basis.fingerprint, (alike, member(taste, 1)))).outcomes
    assert evidence_of(some.whole.scores).examples == 3
    assert evidence_of(some.label_bias.scores).examples == 3
    assert some.whole.adapter == every.whole.adapter


def test_places_are_kept_where_an_unknown_label_is_left_out(models, basis, taste):
    pairs = tuple(taste(1, 16, seed=2))[:11]
    odd = (*pairs[:2], ("the red hat is", "never heard"), *pairs[2:])
    with_odd = Member(1, 1, odd, judged=(0, 2, 3, 4), fresh=(2, 3, 11), current=fitted(models, basis, taste))
    without = Member(1, 1, pairs, judged=(0, 2, 3), fresh=(2, 10), current=fitted(models, basis, taste))
    one, two = fit_cohort(models, FitRequest(basis.fingerprint, (with_odd, without))).outcomes
    assert (one.unknown_labels, two.unknown_labels) == (1, 0)
    assert one.whole == two.whole
    assert one.fresh == two.fresh


def fitted(models: Models, basis, taste, user: int = 1) -> bytes:
    return fit_cohort(models, FitRequest(basis.fingerprint, (member(taste, user),))).outcomes[0].whole.adapter


def test_the_adapter_in_use_is_held_against_what_it_has_not_learnt(models, basis, taste):
    pairs = tuple(taste(1, 16, seed=2))
    current = fitted(models, basis, taste)
    grown = Member(1, 1, pairs, fresh=(11, 12, 13), current=current)
    (outcome,) = fit_cohort(models, FitRequest(basis.fingerprint, (grown,), precision="fp32")).outcomes
    vector = plora.loads_adapter(current)
    held = models.basis(basis.fingerprint)
    for loss, pair in zip(outcome.fresh, pairs[11:14], strict=True):
        (told,) = plora.score(models.base, held, [plora.Judged(vector, [], [plora.Example(*pair)])])
        assert loss.generic == pytest.approx(told.generic.nll, abs=1e-4)
        assert loss.current == pytest.approx(told.personal.nll, abs=1e-4)
    assert 0 < outcome.whole.moved < outcome.whole.from_generic


def test_adam_is_judged_on_what_is_held_out(models, basis, taste):
    pairs = tuple(taste(1, 16, seed=2))
    member = Member(1, 1, pairs[:11], pairs[11:], fresh=(2, 12, 13), current=fitted(models, basis, taste))
    request = FitRequest(basis.fingerprint, (member,), optimizer="adam")
    (outcome,) = fit_cohort(models, request).outcomes
    assert evidence_of(outcome.whole.scores).examples == 5
    assert outcome.label_bias is None
    assert len(outcome.fresh) == 2


def test_an_adapter_of_another_basis_is_not_compared(models, basis, basis_of, taste):
    other = basis_of(models, [taste(user, 8) for user in range(4)], epochs=1)
    foreign = fitted(models, other, taste)
    (outcome,) = fit_cohort(
        models, FitRequest(basis.fingerprint, (member(taste, 1, current=foreign, fresh=(1, 2)),))
    ).outcomes
    assert outcome.fresh == ()
    assert outcome.whole.moved == outcome.whole.from_generic


def test_predictions_come_in_the_order_of_the_rows(models, basis, taste):
    members = tuple(member(taste, user) for user in range(2))
    red, blue = (
        outcome.whole.adapter for outcome in fit_cohort(models, FitRequest(basis.fingerprint, members)).outcomes
    )
    named = {name: Named(name, 1, name) for name in ("red", "blue")}
    carried = (Carried(named["red"], red), Carried(named["blue"], blue))
    worn = (named["red"], named["blue"], None)
    rows = tuple(Row(text, adapter) for text in ("the red bag", "a blue bag") for adapter in worn)
    [answer] = predict(models, [PredictRequest(basis.fingerprint, rows, carried)])
    assert isinstance(answer, PredictAnswer)
    labels = [prediction.label for prediction in answer.predictions]
    assert [labels[0], labels[1], labels[3], labels[4]] == ["good", "bad", "bad", "good"]
    assert all(sum(each.probabilities.values()) == pytest.approx(1) for each in answer.predictions)


def test_another_key_is_refused_without_detail(models, basis, taste):
    request = FitRequest(basis.fingerprint, (member(taste, 0),))
    with pytest.raises(Unreadable):
        ask(models, Purpose.FIT, request, key=bytes(32))


def test_a_request_under_another_purpose_is_not_done(models, basis, taste):
    request = FitRequest(basis.fingerprint, (member(taste, 0),))
    assert ask(models, Purpose.PREDICT, request) == WorkFailed("Unreadable")


def test_an_error_is_answered_by_its_name_and_nothing_else(models, basis, taste):
    broken = FitRequest(basis.fingerprint, (replace(member(taste, 0), current=CANARY.encode()),))
    answer = ask(models, Purpose.FIT, broken)
    assert CANARY not in repr(answer)
    wrong = Named("ann", 1, "d" * 64)
    request = PredictRequest(basis.fingerprint, (Row(CANARY, wrong),), (Carried(wrong, CANARY.encode()),))
    assert ask(models, Purpose.PREDICT, request) == Refused("wrong_adapter")


def test_garbage_inside_a_good_seal_is_an_answer_too(models):
    head = head_of(Purpose.FIT)
    sealed = work(models, KEY, seal_request(KEY, head, Body(b'{"canary": 1}')))
    body = unseal_answer(KEY, head, sealed)
    assert decode_answer(body.document, body.attachment) == WorkFailed("ValidationError")


def test_a_damaged_basis_is_refused(fresh, basis, taste):
    request = FitRequest(basis.fingerprint, (member(taste, 0),))
    assert ask(fresh, Purpose.FIT, request, basis.content[:-1]) == WorkFailed("MalformedBasis")


def test_no_content_is_in_any_repr(taste):
    request = FitRequest("f" * 64, (member(taste, 0, current=CANARY.encode()),))
    assert "shoe" not in repr(request)
    assert CANARY not in repr(request)
    assert CANARY not in repr(Row(CANARY))
    assert CANARY not in repr(Carried(Named("ann", 1, "d"), CANARY.encode()))


def test_an_answer_survives_its_bytes(models, basis, taste):
    request = FitRequest(basis.fingerprint, (member(taste, 0), member(taste, 1)))
    told = ask(models, Purpose.FIT, request)
    assert told.outcomes == fit_cohort(models, request).outcomes
    assert pickle.loads(pickle.dumps(told)) == told  # noqa: S301 - our own value
