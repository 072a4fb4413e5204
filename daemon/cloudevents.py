"""CloudEvents 1.0 over HTTP, strictly: bytes and headers to Envelopes.

A sender that leaves out `id` must hear of it, since (source, id) is what makes a retry harmless; so
nothing here is guessed or defaulted. Duplicate keys, NaN, deep nesting and stray bytes are refused.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import unquote

from daemon.errors import MalformedEvent, UnsupportedMediaType
from daemon.telemetry_context import HEADER, Trace, parse

JSON_DEPTH = 8
ID_CHARS = 256
SOURCE_CHARS = 1_024
ATTRIBUTES = frozenset({"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "dataschema"})
MAX_EXTENSIONS = 32
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NAME = re.compile(r"[a-z0-9]{1,64}")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_JSON_TYPE = re.compile(r"application/([a-z0-9.-]+\+)?json", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Envelope:
    """One CloudEvent whose attributes hold; `data` is parsed JSON and not yet looked at, None when absent."""

    id: str
    source: str
    type: str
    subject: str | None = field(repr=False)
    time: datetime | None
    data: object = field(repr=False)
    trace: Trace | None = None  # of the distributed tracing extension; what is no traceparent is none


def read_json(body: bytes) -> object:
    """Parse strictly. Raises MalformedEvent."""
    _check_depth(body)
    try:
        return json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant)
    except MalformedEvent:
        raise
    except (ValueError, RecursionError):
        raise MalformedEvent("not_json", "the body must be JSON in UTF-8") from None


def read_structured(value: object) -> Envelope:
    """One event of structured or batch mode, from its parsed JSON."""
    if not isinstance(value, dict):
        raise MalformedEvent("not_an_object", "an event must be a JSON object")
    attributes = {name: each for name, each in value.items() if name not in {"data", "data_base64"}}
    return _envelope(attributes, _structured_data(value, attributes))


def read_binary(headers: Sequence[tuple[str, str]], body: bytes) -> Envelope:
    """One event of binary mode: attributes in `ce-` headers, data in the body."""
    attributes: dict[str, object] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered == "content-type":
            attributes["datacontenttype"] = value
        elif lowered.startswith("ce-"):
            attribute = lowered.removeprefix("ce-")
            if attribute in attributes:
                raise MalformedEvent("duplicate_attribute", "a ce- header is sent twice")
            attributes[attribute] = unescape(value)
    return _envelope(attributes, read_json(body) if body else None)


def media_type(content_type: str) -> str:
    """The media type in lower case. Raises UnsupportedMediaType for a charset other than UTF-8."""
    kind, _, parameters = content_type.partition(";")
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip().strip('"').lower() not in {"utf-8", "utf8", "us-ascii"}:
            raise UnsupportedMediaType("unsupported_charset", "the charset must be utf-8")
    return kind.strip().lower()


def _envelope(attributes: Mapping[str, object], data: object) -> Envelope:
    if attributes.get("specversion") != "1.0":
        raise MalformedEvent("wrong_specversion", "the attribute specversion must be 1.0")
    _check_extensions(attributes)
    content_type = attributes.get("datacontenttype")
    if content_type is not None and not _is_json(content_type):
        raise MalformedEvent("wrong_datacontenttype", "datacontenttype must be application/json")
    subject = attributes.get("subject")
    return Envelope(
        id=_word(attributes, "id", ID_CHARS),
        source=_word(attributes, "source", SOURCE_CHARS),
        type=_word(attributes, "type", ID_CHARS),
        subject=None if subject is None else _word(attributes, "subject", SOURCE_CHARS),
        time=_time(attributes.get("time")),
        data=data,
        trace=parse(attributes.get(HEADER)),
    )


def _structured_data(value: Mapping[str, object], attributes: Mapping[str, object]) -> object:
    if "data_base64" not in value:
        return value.get("data")
    encoded = value["data_base64"]
    if "data" in value or not isinstance(encoded, str):
        raise MalformedEvent("wrong_data", "an event carries either data or data_base64, a string")
    if not _is_json(attributes.get("datacontenttype")):
        raise MalformedEvent("wrong_datacontenttype", "data_base64 needs datacontenttype application/json")
    try:
        return read_json(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        raise MalformedEvent("wrong_data", "data_base64 must be base64") from None


def _is_json(content_type: object) -> bool:
    return isinstance(content_type, str) and _JSON_TYPE.fullmatch(media_type(content_type)) is not None


def _word(attributes: Mapping[str, object], name: str, limit: int) -> str:
    value = attributes.get(name)
    if value is None or value == "":
        raise MalformedEvent("missing_attribute", f"the attribute {name} is missing or empty")
    if not isinstance(value, str) or len(value) > limit or not is_plain(value):
        raise MalformedEvent(
            "wrong_attribute", f"the attribute {name} must be a string of at most {limit} characters, no controls"
        )
    return value


def is_plain(value: str) -> bool:
    """Whether `value` is text that every store and header can hold: no controls, no lone surrogates."""
    return value.isprintable() or all(_is_plain_character(each) for each in value)


def _is_plain_character(each: str) -> bool:
    return ord(each) >= 0x20 and not 0x7F <= ord(each) <= 0x9F and not 0xD800 <= ord(each) <= 0xDFFF


def _check_extensions(attributes: Mapping[str, object]) -> None:
    extensions = [name for name in attributes if name not in ATTRIBUTES]
    if len(extensions) > MAX_EXTENSIONS:
        raise MalformedEvent("too_many_attributes", f"an event has at most {MAX_EXTENSIONS} extension attributes")
    for name in extensions:
        if _NAME.fullmatch(name) is None:
            raise MalformedEvent("wrong_attribute_name", "attribute names are lower-case letters and digits")
        if not isinstance(attributes[name], (str, bool, int)):
            raise MalformedEvent("wrong_attribute", "an extension attribute must be a string, number or boolean")


def _time(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        if isinstance(value, str) and _TIME.fullmatch(value):
            return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise MalformedEvent("wrong_time", "the attribute time must be an RFC 3339 time with its offset")


def unescape(value: str) -> str:
    """The HTTP binding's way back: unquote a quoted string, then percent-decode once as UTF-8."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    if not value.isascii():
        raise MalformedEvent("wrong_attribute", "a ce- header must be ASCII; percent-encode everything else")
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise MalformedEvent("wrong_attribute", "a ce- header must be percent-encoded UTF-8") from None


def _check_depth(body: bytes) -> None:
    """Count brackets outside strings first: the parser itself would recurse."""
    depth = 0
    for each in _STRING.sub(b"", body):
        if each in b"[{":
            depth += 1
            if depth > JSON_DEPTH:
                raise MalformedEvent("too_deep", f"JSON may nest {JSON_DEPTH} levels deep")
        elif each in b"]}":
            depth -= 1


def _object(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise MalformedEvent("duplicate_key", "a JSON object has the same key twice")
    return value


def _refuse_constant(_: str) -> object:
    raise MalformedEvent("not_json", "NaN and Infinity are not JSON")
