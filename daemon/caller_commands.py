"""The commands about tenants and callers: what they send."""

import argparse
from collections.abc import Callable
from typing import Protocol

from daemon.client import Request
from policies.access import GRANTS

Actions = argparse._SubParsersAction


class Remote(Protocol):
    """How a command is added that asks the running daemon."""

    def __call__(
        self,
        commands: "Actions[argparse.ArgumentParser]",
        name: str,
        about: str,
        request: Callable[[argparse.Namespace], Request],
        /,
    ) -> argparse.ArgumentParser: ...


def add_callers(actions: "Actions[argparse.ArgumentParser]", remote: Remote) -> None:
    """`callers add|list|revoke`."""
    add = remote(actions, "add", "add a caller and print its token, once", _add)
    add.add_argument("name")
    add.add_argument("--scope", action="append", required=True, choices=list(GRANTS), help="may be given again")
    add.add_argument("--expires", type=float, metavar="DAYS", help="after which the token ends; default: never")
    listing = remote(actions, "list", "list callers", _list)
    revoke = remote(actions, "revoke", "end a caller's token, for good", _revoke)
    revoke.add_argument("name")
    for each in (add, listing, revoke):
        each.add_argument("--tenant", help="default: the operator's own")


def add_tenants(actions: "Actions[argparse.ArgumentParser]", remote: Remote) -> None:
    """`tenants add|list`."""
    add = remote(
        actions, "add", "add a tenant", lambda options: Request("POST", ("tenants",), body={"name": options.name})
    )
    add.add_argument("name")
    remote(actions, "list", "list tenants", lambda _: Request("GET", ("tenants",)))


def _add(options: argparse.Namespace) -> Request:
    body = {
        "name": options.name,
        "scopes": options.scope,
        "tenant": options.tenant,
        "expires_days": options.expires,
    }
    return Request("POST", ("callers",), body=body)


def _list(options: argparse.Namespace) -> Request:
    return Request("GET", ("callers",), _of(options))


def _revoke(options: argparse.Namespace) -> Request:
    return Request("DELETE", ("callers", options.name), _of(options))


def _of(options: argparse.Namespace) -> dict[str, str | int] | None:
    return {"tenant": options.tenant} if options.tenant else None
