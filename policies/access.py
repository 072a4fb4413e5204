"""Who may do what: a caller's scopes against one table."""

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from policies.decision import Decision


class Action(Enum):
    """What a caller may ask for."""

    RECORD = "record"  # hand over events
    READ = "read"  # see a user's state, versions and reasons
    EXPORT = "export"  # fetch the bytes of adapters and bases
    PREDICT = "predict"
    ROLL_BACK = "roll_back"
    FORGET = "forget"
    TRAIN_BASIS = "train_basis"
    OPERATE = "operate"  # audit, callers of the own tenant, and listings over all its users
    ROTATE = "rotate"  # the keys of all tenants
    STEER = "steer"  # pause and drain, for all tenants
    ADMIT_TENANTS = "admit_tenants"  # tenants, and callers of any of them


# An operator runs the system but does not speak for a user: no RECORD, no PREDICT.
GRANTS: MappingProxyType[str, frozenset[Action]] = MappingProxyType(
    {
        "events:write": frozenset({Action.RECORD}),
        "adapters:read": frozenset({Action.READ, Action.EXPORT}),
        "adapters:export": frozenset({Action.EXPORT}),
        "predict": frozenset({Action.PREDICT}),
        "users:admin": frozenset({Action.READ, Action.EXPORT, Action.ROLL_BACK, Action.FORGET}),
        "admin:erase": frozenset({Action.FORGET}),
        "admin:keys": frozenset({Action.ROTATE}),
        "admin:tenants": frozenset({Action.ADMIT_TENANTS}),
        "operator": frozenset(set(Action) - {Action.RECORD, Action.PREDICT, Action.ADMIT_TENANTS}),
    }
)
BEYOND_TENANT = frozenset({"admin:tenants", "admin:keys"})
"""Scopes that reach beyond a tenant: only who may admit tenants gives them."""


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


def may_give(scopes: frozenset[str], wanted: frozenset[str], *, own_tenant: bool) -> Allow | Deny:
    """Decide whether a caller that holds `scopes` may give a caller the scopes `wanted`, or take them."""
    if own_tenant and not wanted & BEYOND_TENANT:
        return may(scopes, Action.OPERATE)
    return may(scopes, Action.ADMIT_TENANTS)
