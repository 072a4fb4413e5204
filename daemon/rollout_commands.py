"""The commands about rollouts: what they send."""

import argparse

from daemon.client import Request
from daemon.command_line import Commands, group, remote

OPTIONS = {
    "least_users": (int, "of each arm, before anything is decided (30)"),
    "outcomes_per_user": (int, "that a user has before they count (3)"),
    "least_gain": (float, "by which current is to be better; below 0: a loss that is put up with (0)"),
    "error": (float, "the chance of a wrong decision (0.05)"),
    "longest_s": (float, "after which it ends undecided (1209600)"),
}


def add_rollouts(commands: "Commands[argparse.ArgumentParser]") -> None:
    """`rollout start|list|show|end`."""
    actions = group(commands, "rollout", "what is current held against what was before")
    start = remote(actions, "start", "serve a share of the users what is current, the others the control", _start)
    start.add_argument("name")
    start.add_argument("--control", choices=("previous", "generic"), default="previous", help="default: previous")
    start.add_argument("--share", type=float, default=0.5, help="of users who are served what is current (0.5)")
    for name, (kind, about) in OPTIONS.items():
        start.add_argument(f"--{name.replace('_', '-')}", type=kind, help=about)
    start.add_argument("--undecided", choices=("promote", "roll_back"), help="what to do then (promote)")
    listing = remote(actions, "list", "list them, newest first", _list)
    listing.add_argument("--limit", type=int, default=100)
    show = remote(actions, "show", "show one, and what is known of its arms", _show)
    show.add_argument("rollout", type=int)
    end = remote(actions, "end", "end one by hand", _end)
    end.add_argument("rollout", type=int)
    end.add_argument("decision", choices=("promote", "roll_back", "cancel"))


def _start(options: argparse.Namespace) -> Request:
    body: dict[str, object] = {"name": options.name, "control": options.control, "share": options.share}
    given = {name: getattr(options, name) for name in (*OPTIONS, "undecided")}
    return Request("POST", ("rollouts",), body=body | {k: v for k, v in given.items() if v is not None})


def _list(options: argparse.Namespace) -> Request:
    return Request("GET", ("rollouts",), {"limit": options.limit})


def _show(options: argparse.Namespace) -> Request:
    return Request("GET", ("rollouts", str(options.rollout)))


def _end(options: argparse.Namespace) -> Request:
    return Request("POST", ("rollouts", str(options.rollout), "end"), body={"decision": options.decision})
