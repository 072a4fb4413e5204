"""Reads what clients send: JSON, or for Helm's release records the protobuf form of Secret and ConfigMap."""

import base64
import json
from typing import Any

MAGIC = 4  # "k8s\\0" stands before a runtime.Unknown, whose field 1 is the type and field 2 the object


def decode(raw: bytes, content_type: str) -> dict[str, Any]:
    """The object that a request body holds. Raises ValueError for a protobuf kind that Helm does not send."""
    if "protobuf" not in content_type:
        return json.loads(raw)
    envelope = _fields(raw[MAGIC:])
    kind = _fields(envelope[1][0])[2][0].decode()
    if kind not in ("Secret", "ConfigMap"):
        raise ValueError(f"{kind} in protobuf")
    body = _fields(envelope[2][0])
    meta = _fields(body[1][0])
    made = {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {
            "name": meta[1][0].decode(),
            "labels": {k: v.decode() for k, v in _pairs(meta.get(11, [])).items()},
        },
    }
    data = _pairs(body.get(2, []))
    if kind == "Secret":
        return made | {"type": body[3][0].decode(), "data": {k: base64.b64encode(v).decode() for k, v in data.items()}}
    return made | {"data": {key: value.decode() for key, value in data.items()}}


def _pairs(entries: list[Any]) -> dict[str, bytes]:
    read = [_fields(entry) for entry in entries]
    return {each[1][0].decode(): each.get(2, [b""])[0] for each in read}


def _fields(raw: bytes) -> dict[int, list[Any]]:
    """Field number to its values, of a message that has only varints and length-delimited fields."""
    at, found = 0, {}
    while at < len(raw):
        tag, at = _varint(raw, at)
        value, at = _varint(raw, at)
        if tag & 7 == 2:
            value, at = raw[at : at + value], at + value
        elif tag & 7 != 0:
            raise ValueError(f"wire type {tag & 7}")
        found.setdefault(tag >> 3, []).append(value)
    return found


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
        if byte < 128:
            return value, at
