"""Who may do what: a caller's scopes against one table."""

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from policies.decision import Decision


class Action(Enum):
    """What a caller may ask for."""

    RECORD = "record"  # hand over events
    READ = "read"  # see a user's state, versions and reasons; fetch adapter bytes
    PREDICT = "predict"
    ROLL_BACK = "roll_back"
    FORGET = "forget"
    TRAIN_BASIS = "train_basis"
    OPERATE = "operate"  # keys, audit, and listings over all users


# An operator runs the system but does not speak for a user: no RECORD, no PREDICT.
GRANTS: MappingProxyType[str, frozenset[Action]] = MappingProxyType(
    {
        "events:write": frozenset({Action.RECORD}),
        "adapters:read": frozenset({Action.READ}),
        "predict": frozenset({Action.PREDICT}),
        "users:admin": frozenset({Action.READ, Action.ROLL_BACK, Action.FORGET}),
        "operator": frozenset({Action.READ, Action.ROLL_BACK, Action.FORGET, Action.TRAIN_BASIS, Action.OPERATE}),
    }
)


@dataclass(frozen=True, slots=True)
class Allow(Decision):
    """The caller may."""


@dataclass(frozen=True, slots=True)
class Deny(Decision):
    """The caller may not."""


def may(scopes: frozenset[str], action: Action) -> Allow | Deny:
    """Decide whether a caller that holds `scopes` may do `action`. A scope that is not in `GRANTS` grants nothing."""
    granting = sorted(scope for scope, actions in GRANTS.items() if action in actions)
    held = [scope for scope in granting if scope in scopes]
    if held:
        return Allow(f"scope {held[0]!r} allows {action.value!r}", "scope_held")
    return Deny(f"{action.value!r} needs one of the scopes {', '.join(granting)}", "scope_missing")
