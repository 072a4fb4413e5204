"""The commands that steer and explain the daemon, and those that look at an installation without one."""

import argparse
from collections.abc import Callable, Mapping

from daemon import migrating
from daemon.client import Client, Request
from daemon.command_line import Answer, Commands, group, kept, local, remote, say
from daemon.configuration import check
from daemon.settings import Settings
from daemon.switches import INGEST, TRAINING

WHICH = (TRAINING, INGEST)


def add_operating(commands: "Commands[argparse.ArgumentParser]") -> None:
    """`status|pause|resume|drain|replay|explain`."""
    remote(
        commands, "status", "tell how the daemon stands; 1 where it is not ready", lambda _: Request("GET", ("status",))
    )
    pause = remote(commands, "pause", "pause every daemon on this database", _turn("POST"))
    resume = remote(commands, "resume", "end a pause", _turn("DELETE"))
    for each in (pause, resume):
        each.add_argument("what", nargs="?", default=TRAINING, choices=WHICH, help="default: training")
    about = "have this daemon claim nothing more and be not ready; it answers until it is stopped"
    remote(commands, "drain", about, lambda _: Request("POST", ("drain",)))
    replay = local(commands, "replay", "count events that were looked at as fresh again", _replay)
    which = replay.add_mutually_exclusive_group(required=True)
    which.add_argument("user", nargs="?", help="the host's id of a user")
    which.add_argument("--since", metavar="TIME", help="everyone of whom something came since then: ISO 8601")
    explain = remote(commands, "explain", "why a user is served what they are, and what happens next", _explain)
    explain.add_argument("user", help="the host's id of a user")


def add_migrate(commands: "Commands[argparse.ArgumentParser]") -> None:
    """`migrate`."""
    command = kept(commands, "migrate", "bring the database to the newest schema, without a daemon", _migrate)
    command.add_argument("--check", action="store_true", help="change nothing; exit status 1 where it is needed")


def add_config(commands: "Commands[argparse.ArgumentParser]") -> None:
    """`config check`."""
    actions = group(commands, "config", "the settings")
    about = "show the settings, secrets masked, and try what they name; 1 where something is wrong"
    kept(actions, "check", about, lambda _, settings: check(settings))


def _migrate(options: argparse.Namespace, settings: Settings) -> Answer:
    return migrating.check(settings) if options.check else migrating.migrate(settings)


def _turn(method: str) -> Callable[[argparse.Namespace], Request]:
    return lambda options: Request(method, ("switches", options.what))


def _explain(options: argparse.Namespace) -> Request:
    return Request("GET", ("users", options.user, "explanation"))


def _replay(options: argparse.Namespace, settings: Settings) -> int:
    """Page after page, until nobody is left."""
    users = 0
    body: Mapping[str, object] = {"user": options.user} if options.user else {"since": options.since}
    with Client(settings) as client:
        answer = client.ask("POST", ("replay",), body=body)
        while (after := answer["after"]) is not None:
            users += int(str(answer["users"]))
            answer = client.ask("POST", ("replay",), body={**body, "after": after})
    return say(options, {"users": users + int(str(answer["users"]))})
