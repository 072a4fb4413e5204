"""The command line. `serve` and `demo` run here; every other command asks the running daemon over HTTP.

Exit status: 0 done, 1 refused or wrong, 2 no daemon is running (or, from argparse, a wrong command line).
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from daemon import custody
from daemon import settings as settings_module
from daemon.caller_commands import add_callers, add_tenants
from daemon.client import Client, DaemonAway, Request
from daemon.errors import DaemonError
from daemon.settings import Settings
from storage import StorageError

DONE, REFUSED, AWAY = 0, 1, 2
Answer = dict[str, object]


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run one command and return the exit status. Says one clear sentence instead of a traceback."""
    options = parser().parse_args(arguments)
    try:
        settings = settings_module.load(environ)
        run: Callable[[argparse.Namespace, Settings], int] = options.run
        return run(options, settings)
    except DaemonAway as away:
        print(f"plora: {away}", file=sys.stderr)
        return AWAY
    except (DaemonError, StorageError) as error:
        print(f"plora: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    top = argparse.ArgumentParser(
        prog="python -m daemon", description="Tiny encrypted adapters for the users of one model."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    _local(commands, "serve", "run the daemon until SIGTERM", _serve)
    demo = _local(commands, "demo", "show the whole main job on simulated or real data", _demo)
    demo.add_argument("--data", help="real rows instead: a .jsonl or .jsonl.gz of user, text, label[, split]")
    users = _remote(commands, "users", "list users, or show one by the host's id", _users)
    users.add_argument("user", nargs="?", help="the host's id of a user")
    users.add_argument("--limit", type=int, default=100)
    runs = _remote(commands, "runs", "list training runs", _runs)
    runs.add_argument("--state", choices=["queued", "running", "succeeded", "failed", "cancelled"])
    runs.add_argument("--limit", type=int, default=100)
    _dead_letters(runs)
    rollback = _remote(commands, "rollback", "serve an earlier version to a user", _rollback)
    rollback.add_argument("user", help="the host's id of a user")
    rollback.add_argument("--to", type=int, help="a version; 0 is the generic model; default: the latest retired one")
    forget = _remote(commands, "forget", "destroy everything of a user", _forget)
    forget.add_argument("user", help="the host's id of a user")
    forget.add_argument("--receipt", action="store_true", help="forget nobody: show the receipt of an earlier erasure")
    _erasures(commands)
    _backups(commands)
    _basis(commands)
    keys = commands.add_parser("keys", help="the key ring").add_subparsers(required=True, metavar="ACTION")
    _remote(keys, "status", "list the key epochs", lambda _: Request("GET", ("keys",)))
    _remote(keys, "rotate", "make a new key epoch and rewrap every data key", _rotate)
    about = "rotate, and destroy the old epochs"
    _remote(keys, "roll-epoch", about, lambda _: Request("POST", ("keys", "roll-epoch")))
    audit = commands.add_parser("audit", help="the audit log").add_subparsers(required=True, metavar="ACTION")
    _audit(audit)
    callers = commands.add_parser("callers", help="who may ask").add_subparsers(required=True, metavar="ACTION")
    add_callers(callers, _remote)
    tenants = commands.add_parser("tenants", help="closed worlds").add_subparsers(required=True, metavar="ACTION")
    add_tenants(tenants, _remote)
    return top


Commands = argparse._SubParsersAction


def _basis(commands: "Commands[argparse.ArgumentParser]") -> None:
    actions = commands.add_parser("basis", help="what all adapters share").add_subparsers(
        required=True, metavar="ACTION"
    )
    train = _remote(actions, "train", "train a basis on the users who consented", _train_basis)
    train.add_argument("--name", default="main")
    _remote(actions, "list", "list bases", lambda _: Request("GET", ("bases",)))


def _dead_letters(runs: argparse.ArgumentParser) -> None:
    about = "runs that were given up"
    kinds = runs.add_subparsers(metavar="KIND")
    actions = kinds.add_parser("dead-letter", help=about, description=about).add_subparsers(
        required=True, metavar="ACTION"
    )
    listing = _remote(actions, "list", "list them, oldest first", _list_dead)
    listing.add_argument("--limit", type=int, default=100)
    listing.add_argument("--after", type=int, default=0, help="a run: list those behind it")
    retry = _remote(actions, "retry", "queue new runs in their place", _retry_dead)
    which = retry.add_mutually_exclusive_group(required=True)
    which.add_argument("dead", nargs="?", type=int, metavar="RUN", help="one of them")
    which.add_argument("--all", action="store_true", help="the oldest thousand")


def _erasures(commands: "Commands[argparse.ArgumentParser]") -> None:
    actions = commands.add_parser("erasures", help="receipts of forgotten users").add_subparsers(
        required=True, metavar="ACTION"
    )
    listing = _remote(
        actions,
        "list",
        "list them, newest first",
        lambda options: Request("GET", ("erasures",), {"limit": options.limit}),
    )
    listing.add_argument("--limit", type=int, default=100)
    verify = _kept(
        actions,
        "verify",
        "check a receipt by the public key alone",
        lambda options, _: custody.verify_receipt(options.file, options.key),
    )
    verify.add_argument("file", type=Path, help="the JSON that forgetting answered")
    verify.add_argument("--key", required=True, help="the public key, from `audit export-key`")


def _audit(actions: "Commands[argparse.ArgumentParser]") -> None:
    verify = _local(
        actions,
        "verify",
        "hold the audit log against its chain, checkpoints and exports",
        lambda options, settings: (
            _say(options, custody.verify_offline(settings, options.exports, options.key))
            if options.exports
            else _ask(options, settings, Request("GET", ("audit", "verify")))
        ),
    )
    verify.add_argument("--exports", help="without the daemon: hold its stopped database against this place")
    verify.add_argument("--key", default="", help="with --exports: the public key; default: that of the key directory")
    _kept(
        actions,
        "accept-restore",
        "state that the stopped database is a backup that was put back",
        lambda _, settings: custody.accept_restore(settings),
    )
    _kept(
        actions,
        "export-key",
        "print the public key of receipts and checkpoints",
        lambda _, settings: custody.export_key(settings),
    )


def _backups(commands: "Commands[argparse.ArgumentParser]") -> None:
    backup = _kept(
        commands,
        "backup",
        "copy database and blobs, never the keys",
        lambda options, settings: custody.back_up(settings, options.to),
    )
    backup.add_argument("--to", type=Path, required=True, help="a new directory")
    restore = _kept(
        commands,
        "restore",
        "put a backup back into an empty data directory",
        lambda options, settings: custody.restore(settings, options.source),
    )
    restore.add_argument("--from", dest="source", type=Path, required=True, help="the directory of a backup")


def _kept(
    commands: "Commands[argparse.ArgumentParser]",
    name: str,
    about: str,
    act: Callable[[argparse.Namespace, Settings], Answer],
) -> argparse.ArgumentParser:
    return _local(commands, name, about, lambda options, settings: _say(options, act(options, settings)))


def _local(
    commands: "Commands[argparse.ArgumentParser]",
    name: str,
    about: str,
    run: Callable[[argparse.Namespace, Settings], int],
) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=about, description=about)
    command.add_argument("--json", action="store_true", help="write JSON")
    command.set_defaults(run=run)
    return command


def _remote(
    commands: "Commands[argparse.ArgumentParser]",
    name: str,
    about: str,
    request: Callable[[argparse.Namespace], Request],
) -> argparse.ArgumentParser:
    return _local(commands, name, about, lambda options, settings: _ask(options, settings, request(options)))


def _serve(options: argparse.Namespace, settings: Settings) -> int:
    from daemon.server import serve  # noqa: PLC0415 - the other commands do without the server's imports

    return serve(settings, as_json=options.json)


def _demo(options: argparse.Namespace, _: Settings) -> int:
    from daemon import demo  # noqa: PLC0415

    return int(demo.main(options))


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
    return Request("POST", ("users", options.user, "rollback"), body={"to": options.to})


def _forget(options: argparse.Namespace) -> Request:
    if options.receipt:
        return Request("GET", ("users", options.user, "erasure"))
    return Request("DELETE", ("users", options.user))


def _train_basis(options: argparse.Namespace) -> Request:
    return Request("POST", ("bases",), body={"name": options.name})


def _rotate(_: argparse.Namespace) -> Request:
    return Request("POST", ("keys", "rotate"))


def _ask(options: argparse.Namespace, settings: Settings, request: Request) -> int:
    with Client(settings) as client:
        answer = client.ask(request.method, request.path, query=request.query, body=request.body)
    return _say(options, answer)


def _say(options: argparse.Namespace, answer: Answer) -> int:
    print(json.dumps(answer, indent=2) if options.json else _text(answer))
    return REFUSED if answer.get("ok") is False else DONE


def _text(answer: Answer) -> str:
    """Lists as tables, the rest as one line for each field."""
    lines = []
    for name, value in answer.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += [f"{name}:", *_table(value)]
        elif isinstance(value, dict):
            lines += [f"{name}:", *(f"  {inner}: {_cell(each)}" for inner, each in value.items())]
        else:
            lines.append(f"{name}: {_cell(value)}")
    return "\n".join(lines)


def _table(rows: Sequence[Answer]) -> list[str]:
    columns = [name for name in rows[0] if not isinstance(rows[0][name], (dict, list))]
    cells = [columns, *([_cell(row.get(name)) for name in columns] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    ]


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        return ", ".join(_cell(each) for each in value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
