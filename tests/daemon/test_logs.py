"""Log lines hold allowed facts and nothing else."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from daemon import logs
from daemon.telemetry_context import Trace, following

CANARY = "zanzibar canary"
USER = "0123456789abcdef" * 2


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    logs.configure("json", stream)
    yield stream
    root.handlers[:], root.level = before


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_keeps_allowed_facts_only(stream: io.StringIO):
    logs.write("run", {"run": 7, "code": "beats_generic", "text": CANARY, "subject": CANARY})
    (line,) = lines(stream)
    assert {name: line[name] for name in ("action", "level", "run", "code")} == {
        "action": "run",
        "level": "info",
        "run": 7,
        "code": "beats_generic",
    }
    assert CANARY not in stream.getvalue()


def test_an_error_is_its_type_and_place(stream: io.StringIO):
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        logs.write_error("run", error, {"run": 7})
        logging.getLogger("daemon.scheduler").exception("action=tick text=%s", CANARY)
    told, by_logger = lines(stream)
    assert (told["error"], by_logger["error"], by_logger["action"]) == ("ValueError", "ValueError", "tick")
    assert str(told["place"]).startswith("test_logs.py:")
    assert "canary" not in stream.getvalue()


def test_of_other_libraries_only_the_origin_is_told(stream: io.StringIO):
    logging.getLogger("uvicorn.error").error("GET /v1/users/%s", CANARY)
    logging.getLogger("httpx").warning(CANARY)
    logging.getLogger("httpx").info(CANARY)
    logging.getLogger("uvicorn.access").error(CANARY)
    assert [line["logger"] for line in lines(stream)] == ["uvicorn.error", "httpx"]
    assert "canary" not in stream.getvalue()


def test_text_layout_quotes_what_would_break_a_line():
    formatter = logs.AllowListFormatter("text")
    record = logging.makeLogRecord({"facts": {"action": "x", "url": 'a b="c"\nd', "run": 1}, "levelname": "INFO"})
    line = formatter.format(record)
    assert "\n" not in line
    assert line.endswith('level=info action=x url="a b=\\"c\\"\\nd" run=1')


def test_a_user_is_told_by_our_random_id_and_by_no_other(stream: io.StringIO):
    logs.write("run", {"user": USER, "run": 1})
    logs.write("run", {"user": "ann@example.org", "run": 2})
    logs.write("run", {"user": USER + "\n", "trace": CANARY, "run": 3})
    told = lines(stream)
    assert [each.get("user") for each in told] == [USER, None, None]
    assert [each["run"] for each in told] == [1, 2, 3]
    assert "example.org" not in stream.getvalue()


def test_a_line_names_the_trace_that_is_followed(stream: io.StringIO):
    logs.write("before")
    with following(Trace("a" * 32, "b" * 16, sampled=False)):
        logs.write("within")
        logs.write("of another", {"trace": "c" * 32})
    assert [each.get("trace") for each in lines(stream)] == [None, "a" * 32, "c" * 32]


def test_every_line_is_json_whatever_a_fact_is(stream: io.StringIO):
    logs.write("run", {"gain": float("nan"), "loss": float("inf"), "url": {"text": CANARY}, "code": "x" * 5000})
    (line,) = lines(stream)
    assert set(line) == {"at", "level", "action", "code"}
    assert len(line["code"]) == logs.MAX_VALUE_CHARS


def test_a_line_that_cannot_be_written_is_lost_and_nothing_is_printed(capfd: pytest.CaptureFixture[str]):
    class Full(io.StringIO):
        def write(self, _: str) -> int:
            raise OSError(CANARY)

    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.configure("json", Full())
        logs.write("run", {"run": 1})
        logging.getLogger("httpx").error("%s %s", CANARY)  # noqa: PLE1206 - what a careless library does
    finally:
        root.handlers[:], root.level = before
    assert capfd.readouterr().err == ""


UNCAUGHT = """
import threading, warnings
from daemon import logs
logs.configure("json")
logs.guard()
class Broken:
    def __del__(self):
        raise ValueError("zanzibar canary")
def fail():
    raise ValueError("zanzibar canary")
thread = threading.Thread(target=fail)
thread.start()
thread.join()
warnings.warn("zanzibar canary")
broken = Broken()
del broken
fail()
"""


def test_what_nobody_catches_is_a_line_of_its_type():
    ended = subprocess.run([sys.executable, "-c", UNCAUGHT], capture_output=True, text=True, timeout=60, check=False)
    told = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [each.get("error") for each in told] == ["ValueError", None, "ValueError", "ValueError"]
    assert [each["action"] for each in told] == ["uncaught", "foreign", "uncaught", "uncaught"]
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "canary" not in ended.stderr
