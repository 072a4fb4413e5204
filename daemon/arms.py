"""Which version answers for a user: the current one, unless a rollout of the tenant says otherwise."""

from dataclasses import dataclass
from typing import Protocol

from storage import Served, Serving


@dataclass(frozen=True, slots=True)
class Chosen:
    """What answers, None: the generic model; and by which arm of which rollout, if one is open."""

    served: Served | None
    rollout: int | None = None
    arm: str | None = None


class Arms(Protocol):
    """Who chooses."""

    def needs_previous(self, tenant: str) -> bool: ...

    def choose(self, tenant: str, serving: Serving) -> Chosen: ...


class CurrentArm:
    """No rollout: everybody is answered by their current version."""

    def needs_previous(self, tenant: str) -> bool:  # noqa: ARG002
        return False

    def choose(self, tenant: str, serving: Serving) -> Chosen:  # noqa: ARG002
        return Chosen(serving.current)
