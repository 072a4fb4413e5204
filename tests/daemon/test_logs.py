"""Log lines hold allowed facts and nothing else."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from daemon import logs

CANARY = "zanzibar canary"


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
