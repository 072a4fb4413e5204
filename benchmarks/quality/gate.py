"""Who is served what: the decisions of `policies.promotion` on the evidence that fits bring with them."""

from collections.abc import Sequence
from enum import Enum

from plora import Adapter, FitFailed, Fitted, Scores
from policies.promotion import Bar, Contender, Evidence, Part, Promote, expect, judge


class Choice(Enum):
    """What a user is served."""

    WHOLE = "whole"
    BIAS = "bias"
    NOTHING = "nothing"


def bias_of(fitted: Fitted) -> Adapter | None:
    """The user's label bias fitted alone; None where the Basis has no label bias."""
    return None if fitted.bias is None else fitted.bias.adapter


def choices(cohort: Sequence[Fitted | FitFailed], bar: Bar | None = None) -> list[Choice]:
    """For each user what would serve, as in the daemon: no test is looked at, only the examples learned from.

    What users of the Basis gain is taken from the cohort itself, as a daemon takes it from everyone's latest version.
    """
    chosen = bar or Bar()
    whole = [evidence(one.left_out) for one in cohort if isinstance(one, Fitted) and one.left_out is not None]
    alone = [evidence(one.bias.left_out) for one in cohort if isinstance(one, Fitted) and one.bias is not None]
    expected = {Part.WHOLE: expect(whole, chosen), Part.LABEL_BIAS: expect(alone, chosen)}
    found = []
    for one in cohort:
        if isinstance(one, FitFailed) or one.left_out is None:
            found.append(Choice.NOTHING)
            continue
        contenders = [Contender(Part.WHOLE, evidence(one.left_out), expected[Part.WHOLE])]
        if one.bias is not None:
            contenders.append(Contender(Part.LABEL_BIAS, evidence(one.bias.left_out), expected[Part.LABEL_BIAS]))
        answer = judge(contenders, chosen)
        if isinstance(answer, Promote):
            found.append(Choice.WHOLE if answer.part is Part.WHOLE else Choice.BIAS)
        else:
            found.append(Choice.NOTHING)
    return found


def evidence(scores: Scores) -> Evidence:
    """As policies read it."""
    return Evidence(
        examples=scores.examples,
        generic_nll=scores.generic.nll,
        label_prior_nll=scores.label_prior.nll,
        wrong_user_nll=scores.wrong_user.nll,
        personal_nll=scores.personal.nll,
        gain_se=scores.gain_se,
        lead=scores.lead,
        lead_se=scores.lead_se,
        generic_accuracy=scores.generic.accuracy,
        personal_accuracy=scores.personal.accuracy,
    )
