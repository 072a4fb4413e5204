"""What every command is made of: how it is added, how it asks the running daemon, and how its answer is written."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from daemon.client import Client, Request
from daemon.settings import Settings

DONE, REFUSED, AWAY = 0, 1, 2
Answer = dict[str, object]
Commands = argparse._SubParsersAction


def group(commands: "Commands[argparse.ArgumentParser]", name: str, about: str) -> "Commands[argparse.ArgumentParser]":
    """A command that has commands of its own."""
    return commands.add_parser(name, help=about, description=about).add_subparsers(required=True, metavar="ACTION")


def local(
    commands: "Commands[argparse.ArgumentParser]",
    name: str,
    about: str,
    run: Callable[[argparse.Namespace, Settings], int],
) -> argparse.ArgumentParser:
    """A command that does its work here."""
    command = commands.add_parser(name, help=about, description=about)
    command.add_argument("--json", action="store_true", help="write JSON")
    command.set_defaults(run=run)
    return command


def kept(
    commands: "Commands[argparse.ArgumentParser]",
    name: str,
    about: str,
    act: Callable[[argparse.Namespace, Settings], Answer],
) -> argparse.ArgumentParser:
    """A local command that says an answer."""
    return local(commands, name, about, lambda options, settings: say(options, act(options, settings)))


def remote(
    commands: "Commands[argparse.ArgumentParser]",
    name: str,
    about: str,
    request: Callable[[argparse.Namespace], Request],
) -> argparse.ArgumentParser:
    """A command that asks the running daemon."""
    return local(commands, name, about, lambda options, settings: ask(options, settings, request(options)))


def ask(options: argparse.Namespace, settings: Settings, request: Request) -> int:
    """Send `request`, say the answer; the exit status."""
    with Client(settings) as client:
        answer = client.ask(request.method, request.path, query=request.query, body=request.body)
    return say(options, answer)


def say(options: argparse.Namespace, answer: Answer) -> int:
    """Write `answer`; the exit status: REFUSED where its field `ok` is false."""
    sys.stdout.write((json.dumps(answer, indent=2) if options.json else _text(answer)) + "\n")
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
