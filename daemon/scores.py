"""The library's scores as a JSON document, which has no word for NaN and the infinities: they are null."""

import json
import math
from dataclasses import asdict

import plora

CONTROLS = ("generic", "label_prior", "wrong_user", "personal")


def dumps(scores: plora.Scores) -> str:
    """The document."""
    return json.dumps(_plain(asdict(scores)), sort_keys=True)


def loads(document: str) -> plora.Scores | None:
    """The reverse, whatever else the document says; None for what another release wrote."""
    try:
        told = json.loads(document)
        return plora.Scores(
            examples=int(told["examples"]),
            generic=_score(told["generic"]),
            label_prior=_score(told["label_prior"]),
            wrong_user=_score(told["wrong_user"]),
            personal=_score(told["personal"]),
            gain=_number(told["gain"]),
            gain_se=_number(told["gain_se"]),
            lead=_number(told["lead"]),
            lead_se=_number(told["lead_se"]),
        )
    except (ValueError, TypeError, KeyError):
        return None


def is_finite(scores: plora.Scores) -> bool:
    """Whether every loss is a number, or there was nothing to measure."""
    return not scores.examples or all(math.isfinite(getattr(scores, name).nll) for name in CONTROLS)


def _score(told: dict[str, float | None]) -> plora.Score:
    return plora.Score(_number(told["accuracy"]), _number(told["nll"]))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
