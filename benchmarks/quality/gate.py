"""Who is served what: the decision of `policies.promotion` on the evidence that a fit brings with it."""

from enum import Enum

from benchmarks.quality.methods import Unavailable
from plora import Adapter, Fitted


class Choice(Enum):
    """What a user is served."""

    WHOLE = "whole"
    BIAS = "bias"
    NOTHING = "nothing"


def bias_of(fitted: Fitted) -> Adapter | None:
    """The user's label bias fitted alone; None where the Basis has no label bias."""
    return None if fitted.bias is None else fitted.bias.adapter


def choose(fitted: Fitted, *, known: bool) -> Choice:
    """`known`: the Basis was trained on these very rows, so that `left_out` flatters. Raises Unavailable."""
    del fitted, known
    raise Unavailable("the decision of policies.promotion is not connected")
