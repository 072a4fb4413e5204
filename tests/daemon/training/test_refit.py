"""A user with an adapter and a few new examples is fitted from the statistics and those examples alone."""

import json
from dataclasses import replace

import pytest

import plora
from daemon.learnt import loads
from daemon.messages import BasisTrained, FitRequest, Member, MemberFitted, Mode
from daemon.models import Models
from daemon.scores import loads as plora_scores
from daemon.verdict import evidence_of
from daemon.work import fit_cohort
from policies import Policies
from policies.promotion import Part, Promote, Reject
from policies.refit import Growth
from policies.trigger import Limits
from storage import EventKind, NewEvent

OFTEN = Limits(min_fresh=1, cooldown_s=0.0)


class Listening:
    """A trainer that remembers what it was asked."""

    def __init__(self, real) -> None:
        self.real, self.members = real, []

    def fit(self, request, basis):
        self.members += request.members
        return self.real.fit(request, basis)

    def __getattr__(self, name: str):
        return getattr(self.real, name)


class Daemon:
    """A training side where whoever is fitted is promoted, after one new example."""

    def __init__(self, training, **settings) -> None:
        self.heard = Listening(training.trainer)
        self.training = training.with_trainer(self.heard, trigger=OFTEN, **settings)
        self.policies(Policies(judge=lambda *_: Promote("a test", "beats_generic")))

    def policies(self, policies: Policies) -> None:
        cohorts = self.training.scheduler._cohorts
        cohorts._policies = cohorts._settling._policies = cohorts._judging._policies = policies

    def fit(self) -> list[Member]:
        self.heard.members.clear()
        self.training.clock.advance(1)
        self.training.work()
        return list(self.heard.members)

    def scores(self, user: str) -> dict:
        return json.loads(self.training.store.versions(user)[-1].scores)

    def learnt(self, user: str):
        return loads(self.training.store.materials([user])[user].statistics)


@pytest.fixture(scope="module")
def other(models, basis_of, taste) -> BasisTrained:
    """Another Basis."""
    return basis_of(models, [taste(user, 8) for user in range(4)], epochs=1)


@pytest.fixture
def daemon(training, basis) -> Daemon:
    training.give_basis(basis)
    return Daemon(training)


@pytest.fixture
def user(daemon, taste) -> str:
    """Somebody with an adapter from 24 examples."""
    made = daemon.training.record("ann", taste(1, 40)[:24])
    daemon.fit()
    return made


def test_a_first_fit_is_of_all_examples_and_leaves_statistics_of_them(daemon, taste):
    user = daemon.training.record("ann", taste(1, 24))
    (member,) = daemon.fit()
    assert (member.statistics, member.covered) == (None, 0)
    learnt = daemon.learnt(user)
    by_seq = {event.seq: json.loads(event.content)["text"] for event in daemon.training.store.events(user)}
    assert [by_seq[seq] for seq in learnt.seqs] == [text for text, _ in member.learn]
    assert plora.loads_statistics(learnt.statistics).examples == len(member.learn)
    assert daemon.scores(user)["mode"] == "full"
    assert daemon.scores(user)["examples"] == len(member.learn) == 24


def test_new_examples_are_added_to_the_statistics_and_only_they_are_run(daemon, user, taste):
    before = daemon.learnt(user)
    full = daemon.scores(user)
    daemon.training.record("ann", taste(1, 40)[24:27], first=100)
    (member,) = daemon.fit()
    assert member.statistics == before.statistics
    assert member.covered == len(before.seqs)
    after = daemon.learnt(user)
    assert set(before.seqs) < set(after.seqs)
    assert plora.loads_statistics(after.statistics).examples == len(after.seqs) == len(member.learn)
    assert daemon.scores(user)["mode"] == "refit"
    assert daemon.scores(user)["passes"] * 27 == pytest.approx(
        1.5 * 3, abs=0.02
    )  # one over the new, and half to look again
    assert (full["examples"], daemon.scores(user)["examples"]) == (24, 27)
    count = daemon.training.count
    assert (count("plora_fits_total", mode="full"), count("plora_fits_total", mode="refit")) == (1, 1)
    assert 0 < count("plora_fit_passes_total", mode="refit") < count("plora_fit_passes_total", mode="full") / 2


def test_what_a_refit_keeps_and_what_is_new_are_one_evidence(daemon, user, taste):
    before, trainer = daemon.scores(user), daemon.training.trainer.real
    daemon.training.record("ann", taste(1, 40)[24:27], first=100)
    (member,) = daemon.fit()
    after, kept = daemon.scores(user), plora_scores(member.kept)
    assert kept.to_json() == plora_scores(json.dumps(before)).to_json()
    alone = replace(member, epoch=9, kept=None)
    basis = daemon.training.store.current_basis(daemon.training.tenant).fingerprint
    (outcome,) = trainer.fit(FitRequest(basis, (alone,)), lambda: b"").outcomes
    new = plora_scores(outcome.whole.scores)
    assert new.examples == 3
    together = kept.plus(new)
    assert after["gain"] == pytest.approx(together.gain)
    assert after["gain_se"] == pytest.approx(together.gain_se)
    assert after["personal"]["nll"] == pytest.approx((24 * kept.personal.nll + 3 * new.personal.nll) / 27)


def test_every_new_example_is_learnt_from_and_judged_without_itself(daemon, user, taste):
    for at in range(24, 32):
        daemon.training.record("ann", taste(1, 40)[at : at + 1], first=at + 100)
        (member,) = daemon.fit()
        assert len(member.learn) == member.covered + 1 == at + 1
        assert len(member.fresh) == 1
        assert daemon.scores(user)["examples"] == at + 1
    assert daemon.training.count("plora_fits_total", mode="refit") == 8


def test_somebody_served_their_label_bias_alone_is_fitted_anew(training, basis, taste):
    training.give_basis(basis)
    daemon = Daemon(training)
    daemon.policies(Policies(judge=lambda *_: Promote("a test", "label_bias_beats_generic", Part.LABEL_BIAS)))
    user = training.record("ann", taste(1, 40)[:24])
    daemon.fit()
    vector = plora.loads_adapter(training.store.current_adapter(user).content).vector
    bias = plora.loads_basis(basis.content).spec.bias
    assert vector[:bias].abs().max() > 0
    assert vector[bias:].abs().max() == 0
    daemon.training.record("ann", taste(1, 40)[24:26], first=100)
    (member,) = daemon.fit()
    assert (member.statistics, member.covered, len(member.fresh)) == (None, 0, 2)


def test_a_correction_of_a_covered_example_begins_anew(daemon, user):
    covered = daemon.learnt(user).seqs[0]
    event = next(each for each in daemon.training.store.events(user) if each.seq == covered)
    text = json.loads(event.content)["text"]
    store, clock = daemon.training.store, daemon.training.clock
    fix = NewEvent("/tests", "fix", "ann", EventKind.CORRECTION, daemon.training.content(text, "bad"), None, None)
    store.record_events(daemon.training.tenant, [fix], clock.advance(1))
    (member,) = daemon.fit()
    assert (member.statistics, member.covered) == (None, 0)
    assert covered not in daemon.learnt(user).seqs


def test_a_deleted_example_is_in_no_later_statistics(daemon, user, taste):
    covered = daemon.learnt(user).seqs[0]
    daemon.training.store.delete_events(user, [covered], daemon.training.clock.now())
    daemon.training.record("ann", taste(1, 40)[24:26], first=100)
    (member,) = daemon.fit()
    assert member.statistics is None
    assert covered not in daemon.learnt(user).seqs


def test_much_that_is_new_begins_anew(daemon, user, taste):
    daemon.training.record("ann", taste(1, 40)[24:], first=100)
    (member,) = daemon.fit()
    assert member.statistics is None


def test_refits_can_be_turned_off(training, basis, taste):
    training.give_basis(basis)
    daemon = Daemon(training, refit=Growth(most_new=0.0))
    for first, pairs in ((0, taste(1, 40)[:24]), (100, taste(1, 40)[24:25])):
        daemon.training.record("ann", pairs, first=first)
        (member,) = daemon.fit()
        assert member.statistics is None


def test_another_basis_begins_anew(daemon, user, taste, other):
    daemon.training.give_basis(other)
    daemon.training.record("ann", taste(1, 40)[24:26], first=100)
    (member,) = daemon.fit()
    assert (member.statistics, member.current) == (None, None)
    assert plora.loads_statistics(daemon.learnt(user).statistics).basis == other.fingerprint


def test_a_rejected_version_leaves_the_statistics_of_the_current_one(daemon, user, taste):
    before = daemon.learnt(user)
    daemon.policies(Policies(judge=lambda *_: Reject("a test", "worse_than_current")))
    daemon.training.record("ann", taste(1, 40)[24:26], first=100)
    (member,) = daemon.fit()
    assert member.statistics == before.statistics
    assert daemon.learnt(user) == before
    with daemon.training.store._database.read() as connection:  # of the rejected one nothing is kept
        kept = connection.exec_driver_sql("SELECT count(*) FROM versions WHERE statistics_sealed IS NOT NULL")
        assert kept.scalar_one() == 1
    daemon.training.record("ann", taste(1, 40)[26:28], first=200)
    (member,) = daemon.fit()
    assert member.statistics == before.statistics
    assert len(member.learn) > member.covered


def ask(models: Models, basis, *members: Member) -> tuple[MemberFitted, ...]:
    return fit_cohort(models, FitRequest(basis.fingerprint, members)).outcomes


@pytest.fixture
def first(models, basis, taste) -> MemberFitted:
    """Somebody fitted on 12 examples."""
    pairs = tuple(taste(1, 30))
    return ask(models, basis, Member(1, 1, pairs[:12]))[0]


def test_a_refit_is_close_to_a_full_fit_of_everything(models, basis, taste, first):
    pairs = tuple(taste(1, 30))
    grown = Member(1, 1, pairs[:16], kept=first.whole.scores, statistics=first.statistics, covered=12)
    refit, full = ask(models, basis, grown, Member(2, 1, pairs[:16]))
    assert (refit.mode, full.mode) == (Mode.REFIT, Mode.FULL)
    one, other = (plora.loads_adapter(each.whole.adapter).vector for each in (refit, full))
    held = models.basis(basis.fingerprint)
    assert held.divergence(one, other) < 0.01 * held.divergence(other)
    told = [evidence_of(each.whole.scores) for each in (refit, full)]
    assert [each.examples for each in told] == [16, 16]
    assert told[0].personal_nll == pytest.approx(told[1].personal_nll, abs=0.05)
    assert refit.passes < full.passes


def test_a_refit_is_the_same_alone_and_among_others(models, basis, taste, first):
    pairs = tuple(taste(1, 30))
    grown = Member(1, 1, pairs[:16], kept=first.whole.scores, statistics=first.statistics, covered=12)
    others = [Member(2 + user, 1, tuple(taste(user, 16))[:11]) for user in range(3)]
    alone = ask(models, basis, grown)[0]
    among = ask(models, basis, *others, grown)[-1]
    assert among.whole == alone.whole
    assert among.statistics == alone.statistics


def test_where_the_statistics_do_not_hold_the_whole_history_is_fitted_in_the_same_request(models, basis, taste, first):
    pairs = tuple(taste(1, 30))
    known = plora.loads_statistics(first.statistics)
    far = plora.dumps(replace(known, gradient=known.gradient * 1000))  # lead to where no parabola holds
    moved, full = ask(
        models,
        basis,
        Member(1, 1, pairs[:16], kept=first.whole.scores, statistics=far, covered=12),
        Member(2, 1, pairs[:16]),
    )
    assert moved.mode is Mode.MOVED
    assert moved.whole == full.whole
    assert moved.statistics == full.statistics


@pytest.mark.parametrize("damage", [lambda _: b"", lambda s: s[:-1], lambda s: b"XXXX" + s[4:]])
def test_statistics_that_cannot_be_read_begin_anew(models, basis, taste, first, damage):
    pairs = tuple(taste(1, 30))
    damaged = Member(1, 1, pairs[:16], kept=first.whole.scores, statistics=damage(first.statistics), covered=12)
    fitted, full = ask(models, basis, damaged, Member(2, 1, pairs[:16]))
    assert fitted.mode is Mode.FULL
    assert fitted.whole == full.whole


def test_statistics_of_another_basis_begin_anew(models, taste, first, other):
    pairs = tuple(taste(1, 30))
    foreign = Member(1, 1, pairs[:16], kept=first.whole.scores, statistics=first.statistics, covered=12)
    assert ask(models, other, foreign)[0].mode is Mode.FULL


def test_adam_leaves_no_statistics_and_uses_none(models, basis, taste, first):
    pairs = tuple(taste(1, 30))
    member = Member(1, 1, pairs[:16], pairs[20:], statistics=first.statistics, covered=12)
    request = FitRequest(basis.fingerprint, (member,), steps=2, learning_rate=0.1, optimizer="adam", precision="fp32")
    (fitted,) = fit_cohort(models, request).outcomes
    assert (fitted.mode, fitted.statistics) == (Mode.FULL, None)


def test_no_statistics_show_in_a_repr(first):
    member = Member(1, 1, (), (), statistics=first.statistics, covered=0)
    assert repr(first.statistics[:20])[2:-1] not in repr(member) + repr(first)


def test_an_engine_is_made_once_for_each_basis_and_goes_with_it(models, basis, taste, other):
    fresh = Models(models.base, keep=1)
    fresh.give(basis.content)
    held = fresh.basis(basis.fingerprint)
    engine = fresh.engine(held, plora.Precision.FP32)
    assert fresh.engine(held, plora.Precision.FP32) is engine
    ask(fresh, basis, Member(1, 1, tuple(taste(1, 8))))
    assert fresh.engine(held, plora.Precision.AUTO) is not engine
    fresh.give(other.content)
    assert fresh.basis(basis.fingerprint) is None
    assert list(fresh._engines) == []
