"""The bodies about callers and tenants."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from daemon.api.schemas import Request
from policies.access import GRANTS


class CallerRequest(Request):
    """A caller to add; it bears a token that is made here."""

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._@-]+$")]
    scopes: Annotated[
        list[str],
        Field(min_length=1, max_length=20, json_schema_extra={"items": {"type": "string", "enum": list(GRANTS)}}),
    ]
    tenant: Annotated[
        str | None, Field(min_length=1, max_length=128, description="its name; without it the caller's own")
    ] = None
    expires_days: Annotated[float | None, Field(gt=0, le=3_650, description="without it the token does not end")] = None


class CallerView(BaseModel):
    """A caller of a tenant."""

    id: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class CallerAdded(BaseModel):
    """A new caller, and what it sends to be known."""

    id: str
    name: str
    scopes: list[str]
    expires_at: datetime | None
    token: Annotated[str, Field(description="shown only now; the store keeps its hash")]


class CallerList(BaseModel):
    """Every caller of the tenant."""

    callers: list[CallerView]


class TenantRequest(Request):
    """A tenant to add."""

    name: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]


class TenantView(BaseModel):
    """One closed world of users, keys and callers."""

    name: str
    created_at: datetime


class TenantList(BaseModel):
    """Every tenant."""

    tenants: list[TenantView]
