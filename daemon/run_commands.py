"""The commands about users, runs and bases: what they send."""

import argparse

from daemon.client import Request
from daemon.command_line import Commands, group, remote

STATES = ("queued", "running", "succeeded", "failed", "cancelled")


def add_users(commands: "Commands[argparse.ArgumentParser]") -> None:
    """`users`, `rollback` and `forget`."""
    users = remote(commands, "users", "list users, or show one by the host's id", _users)
    users.add_argument("user", nargs="?", help="the host's id of a user")
    users.add_argument("--limit", type=int, default=100)
    rollback = remote(commands, "rollback", "serve an earlier version to a user, or to everybody", _rollback)
    whom = rollback.add_mutually_exclusive_group(required=True)
    whom.add_argument("user", nargs="?", help="the host's id of a user")
    whom.add_argument("--all", action="store_true", help="every user of the tenant: --to is then a time, ISO 8601")
    rollback.add_argument("--to", help="a version; 0 is the generic model; default: the latest retired one")
    forget = remote(commands, "forget", "destroy everything of a user", _forget)
    forget.add_argument("user", help="the host's id of a user")
    forget.add_argument("--receipt", action="store_true", help="forget nobody: show the receipt of an earlier erasure")


def add_runs(commands: "Commands[argparse.ArgumentParser]") -> None:
    """`runs` and `runs dead-letter list|retry`."""
    runs = remote(commands, "runs", "list training runs", _runs)
    runs.add_argument("--state", choices=STATES)
    runs.add_argument("--limit", type=int, default=100)
    actions = group(runs.add_subparsers(metavar="KIND"), "dead-letter", "runs that were given up")
    listing = remote(actions, "list", "list them, oldest first", _list_dead)
    listing.add_argument("--limit", type=int, default=100)
    listing.add_argument("--after", type=int, default=0, help="a run: list those behind it")
    retry = remote(actions, "retry", "queue new runs in their place", _retry_dead)
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("dead", nargs="?", type=int, metavar="RUN", help="one of them")
    which.add_argument("--all", action="store_true", help="the oldest thousand")


def add_basis(commands: "Commands[argparse.ArgumentParser]") -> None:
    """`basis train|list`."""
    actions = group(commands, "basis", "what all adapters share")
    train = remote(actions, "train", "train a basis on the users who consented", _train_basis)
    train.add_argument("--name", default="main")
    remote(actions, "list", "list bases", lambda _: Request("GET", ("bases",)))


def _users(options: argparse.Namespace) -> Request:
    return (
        Request("GET", ("users", options.user))
        if options.user
        else Request("GET", ("users",), {"limit": options.limit})
    )


def _runs(options: argparse.Namespace) -> Request:
    state = {"state": options.state} if options.state else {}
    return Request("GET", ("runs",), {"limit": options.limit, **state})


def _list_dead(options: argparse.Namespace) -> Request:
    return Request("GET", ("runs", "dead-letter"), {"limit": options.limit, "after": options.after})


def _retry_dead(options: argparse.Namespace) -> Request:
    return Request("POST", ("runs", "dead-letter", "retry"), body={"run": options.dead})


def _rollback(options: argparse.Namespace) -> Request:
    if options.all:
        return Request("POST", ("rollback",), body={"to": options.to})
    to = int(options.to) if options.to is not None and options.to.isdecimal() else options.to  # the daemon says no
    return Request("POST", ("users", options.user, "rollback"), body={"to": to})


def _forget(options: argparse.Namespace) -> Request:
    if options.receipt:
        return Request("GET", ("users", options.user, "erasure"))
    return Request("DELETE", ("users", options.user))


def _train_basis(options: argparse.Namespace) -> Request:
    return Request("POST", ("bases",), body={"name": options.name})
