"""What is stored beside a version is what was judged, and can be read again."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.api.explanation import decided_view
from daemon.messages import FreshLoss, MemberFitted, Mode, Offer
from daemon.settings import Settings
from daemon.verdict import (
    Verdict,
    bias_evidence_of,
    document,
    evidence_of,
    fresh_of,
    gain_of,
    is_ours,
    measured,
    part_of,
    since_of,
    worse_of,
)
from policies.drift import RollBack, Steady
from policies.promotion import Bar, Contender, Evidence, Part, Promote, Reject

SCORES = {
    "examples": 12,
    "generic": {"accuracy": 0.5, "nll": 1.2},
    "label_prior": {"accuracy": 0.5, "nll": 1.1},
    "wrong_user": {"accuracy": None, "nll": 1.3},
    "personal": {"accuracy": 0.75, "nll": 0.9},
    "gain": 0.3,
    "gain_se": 0.1,
    "lead": 0.1,
    "lead_se": 0.05,
}
ALONE = SCORES | {"personal": {"accuracy": 0.6, "nll": 1.0}, "gain": 0.2}


def fitted(fresh: tuple[FreshLoss, ...] = ()) -> MemberFitted:
    return MemberFitted(
        run=1,
        base="ba5e",
        whole=Offer(b"whole", json.dumps(SCORES), 0.2, 0.3),
        label_bias=Offer(b"bias", json.dumps(ALONE), None, None),
        fresh=fresh,
        mode=Mode.REFIT,
        passes=0.25,
    )


def verdict(part: Part = Part.WHOLE, **more: object) -> Verdict:
    evidence = evidence_of(json.dumps(SCORES if part is Part.WHOLE else ALONE))
    decision = Promote("because", "beats_generic", part)
    chosen = {"decision": decision, "drift": Steady("all is well", "steady"), "since": None} | more
    return Verdict(judged=Contender(part, evidence), **chosen)


def test_a_document_tells_all_that_was_judged():
    told = document(fitted(), verdict(), Bar())
    assert is_ours(told)
    assert evidence_of(told).personal_nll == 0.9
    assert math.isnan(json.loads(told)["wrong_user"]["accuracy"] or math.nan)
    assert bias_evidence_of(told).personal_nll == 1.0
    assert part_of(told) is Part.WHOLE
    assert gain_of(told).mean == pytest.approx(0.3 * 0.15**2 / (0.15**2 + 0.1**2))
    assert (json.loads(told)["mode"], json.loads(told)["passes"], json.loads(told)["moved"]) == ("refit", 0.25, 0.2)


@given(st.sampled_from(Part), st.none() | st.integers(1, 2**60))
def test_part_and_since_are_read_again(part, since):
    told = document(fitted(), verdict(part, since=since), Bar())
    assert (part_of(told), since_of(told)) == (part, since)


@pytest.mark.parametrize("told", ["{}", '{"gain": 0.5}', '{"part": 7, "since": "x", "believed": []}'])
def test_what_an_older_release_wrote_says_nothing(told):
    assert not is_ours(told)
    assert (part_of(told), since_of(told), gain_of(told), bias_evidence_of(told)) == (Part.WHOLE, None, None, None)
    assert evidence_of(told).examples == 0


def test_nothing_in_a_document_is_no_number():
    nothing = SCORES | {"examples": 0, "gain": None, "gain_se": None, "lead": None}
    nothing |= {name: {"accuracy": None, "nll": None} for name in ("generic", "label_prior", "wrong_user", "personal")}
    empty = MemberFitted(1, "ba5e", Offer(b"", json.dumps(nothing)))
    judged = Contender(Part.WHOLE, evidence_of(json.dumps(nothing)))
    told = document(empty, Verdict(Reject("few", "too_little_evidence"), judged, Steady("x", "steady"), None), Bar())
    assert "NaN" not in told
    assert "Infinity" not in told


def test_what_came_since_is_held_against_generic_and_against_the_promise():
    current = document(fitted(), verdict(), Bar())
    fresh = tuple(FreshLoss(1.0, loss, 0.5) for loss in (1.4, 1.6, 1.5, 1.5))
    found = fresh_of(fitted(fresh), current)
    assert found.gain.mean == pytest.approx(-0.5)
    assert found.shortfall.mean == pytest.approx(1.5 - 0.9)
    assert found.shortfall.se == pytest.approx(found.gain.se * math.sqrt(1 + 4 / 12))
    assert worse_of(fresh).mean == pytest.approx(0.5 - 1.5)
    alone = fresh_of(fitted(fresh), document(fitted(), verdict(Part.LABEL_BIAS), Bar()))
    assert alone.shortfall.mean == pytest.approx(1.5 - 1.0)
    assert fresh_of(fitted(fresh), '{"gain": 0.5}').shortfall.examples == 0
    assert fresh_of(fitted(), current) is fresh_of(fitted(fresh), None) is worse_of(()) is None


def test_one_difference_has_no_spread():
    assert (measured([0.5]).mean, measured([]).examples) == (0.5, 0)
    assert math.isnan(measured([0.5]).se)


def test_only_a_roll_back_retires():
    assert verdict(drift=RollBack("it loses", "loses")).retires
    assert not verdict().retires
    assert not verdict(decision=Reject("no", "gain_within_noise")).promoted


def test_evidence_of_what_is_not_known_is_not_a_number():
    told = evidence_of("{}")
    assert isinstance(told, Evidence)
    assert math.isnan(told.gain)
    assert decided_view([], None, 3, Settings()).needed.events == 5
