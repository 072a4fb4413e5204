"""What every decision is: something to do, and why."""

import re
from dataclasses import dataclass

from policies.facts import InvalidFact

CODE = re.compile(r"[a-z][a-z0-9_]{0,39}\Z")


@dataclass(frozen=True, slots=True)
class Decision:
    """A policy's answer: `reason` tells a person why, `code` is the stable name of the reason in metrics."""

    reason: str
    code: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise InvalidFact("a decision's reason", repr(self.reason), "a sentence")
        if not CODE.match(self.code):
            raise InvalidFact("a decision's code", repr(self.code), "a short word such as 'too_few_fresh'")
