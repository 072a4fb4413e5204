"""Log lines: one per fact, `action` first, and only fields of an allow-list.

Content, hosts' user ids and keys must not reach a log even by mistake, so a line is built from named
facts and whatever is not on the list is left out; so is a `user` that is not one of our random ids. Of other
libraries' records only the origin is kept: their messages may quote a URL or a body.

A line written while a Trace is followed names it, so that the lines of one event can be found together.
"""

import json
import logging
import math
import re
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, TextIO

from daemon.telemetry_context import current

Fact = str | int | float | bool | None
OURS = ("plora", "daemon", "storage", "policies")
_FIELDS = """action run runs user users tenant caller basis base version versions epoch attempt attempts cohort cohorts
    count events examples steps seconds duration_s wait_s lease_s bytes depth code codes outcome decision reason_code
    status method route error place logger pid port replicas restarts state kind type revision schema trainer signal
    request entries rewrapped owner purpose loss gain queued running backoff_s seq ready causes url
    trained rollout epochs pace trace mode passes database operation"""
FIELDS = frozenset(_FIELDS.split())
_RANDOM = re.compile(r"[0-9a-f]{32}")
SHAPES = {"user": _RANDOM, "trace": _RANDOM}
"""What a text must look like to be the fact that it is given as."""
MAX_VALUE_CHARS = 200
_LOGGER = logging.getLogger("plora")


def write(action: str, facts: Mapping[str, Fact] | None = None, *, level: int = logging.INFO) -> None:
    """One line. Facts outside FIELDS are left out."""
    trace = current()
    traced = {} if trace is None else {"trace": trace.trace_id}
    _LOGGER.log(level, action, extra={"facts": {"action": action, **traced, **(facts or {})}})


def write_error(action: str, error: BaseException, facts: Mapping[str, Fact] | None = None) -> None:
    """One line about `error`: its type and place, never its text."""
    origin = {"error": type(error).__name__, "place": _place(error)}
    write(action, {**origin, **(facts or {})}, level=logging.ERROR)


def configure(layout: Literal["json", "text"], stream: TextIO | None = None) -> None:
    """Send every record of this process through the allow-list to `stream` (default: standard error)."""
    output = _Silent(stream or sys.stderr)
    output.setFormatter(AllowListFormatter(layout))
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = name != "uvicorn.access"  # its lines hold paths, and paths hold user ids


def guard() -> None:
    """Have what nobody catches told as a line too: Python itself would print the texts of errors and warnings."""
    logging.captureWarnings(capture=True)
    sys.excepthook = _tell
    threading.excepthook = lambda args: _tell(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: _tell(args.exc_type, args.exc_value, args.exc_traceback)


def allowed(facts: Mapping[str, object]) -> dict[str, Fact]:
    """Those of `facts` that may be told, cut to a bounded length."""
    return {name: _short(value) for name, value in facts.items() if name in FIELDS and _is_fact(name, value)}


class _Silent(logging.StreamHandler[TextIO]):
    """A line that cannot be written is lost: the standard library would print its parts, whatever they hold."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's name
        """Nothing."""


class AllowListFormatter(logging.Formatter):
    """Turns a record into its allowed facts, and nothing else."""

    def __init__(self, layout: Literal["json", "text"]) -> None:
        super().__init__()
        self.layout = layout

    def format(self, record: logging.LogRecord) -> str:
        facts = allowed(dict(_facts(record)))
        if record.exc_info and record.exc_info[1] is not None:
            facts |= {"error": type(record.exc_info[1]).__name__, "place": _place(record.exc_info[1])}
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Fact] = {"at": at, "level": record.levelname.lower(), **facts}
        if self.layout == "json":
            return json.dumps(line, ensure_ascii=True)
        return " ".join(f"{name}={_word(value)}" for name, value in line.items())


def _facts(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    given = getattr(record, "facts", None)
    if isinstance(given, dict):
        yield from given.items()
    elif record.name.split(".")[0] in OURS:
        for token in record.getMessage().split():
            name, equals, value = token.partition("=")
            if equals:
                yield name, value
    else:
        yield from (("action", "foreign"), ("logger", record.name), ("place", f"{record.module}:{record.lineno}"))


def _is_fact(name: str, value: object) -> bool:
    if isinstance(value, str):
        return name not in SHAPES or SHAPES[name].fullmatch(value) is not None
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _short(value: object) -> Fact:
    return value[:MAX_VALUE_CHARS] if isinstance(value, str) else value  # type: ignore[return-value]  # _is_fact says


def _tell(kind: type[BaseException], error: BaseException | None, place: TracebackType | None) -> None:
    if not issubclass(kind, SystemExit):
        write_error("uncaught", (error or kind()).with_traceback(place))


def _word(value: Fact) -> str:
    text = str(value)
    return json.dumps(text) if not text or any(each in ' "=\\' or not each.isprintable() for each in text) else text


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else "?"
