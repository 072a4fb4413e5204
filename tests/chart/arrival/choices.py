"""A value for every setting of the daemon that is not its default and that the daemon accepts beside all the others."""

import json
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Literal, get_args, get_origin, get_type_hints

from pydantic.alias_generators import to_camel

from daemon.settings import PREFIX, DaemonError, Settings, defaults, load
from helm.generate.settings import CHART_SETS

TOGETHER = {  # settings that are right only beside each other, and texts that no rule of types can guess
    "PLORA_DATABASE_URL": "postgresql://",
    "PLORA_URL": "https://plora.example.org",
    "PLORA_OIDC_ISSUER": "https://identity.example.org",
    "PLORA_OIDC_AUDIENCE": "plora",
    "PLORA_OIDC_JWKS_URL": "https://identity.example.org/keys",
    "PLORA_OIDC_ALGORITHMS": "ES256",
    "PLORA_INGEST_BROKER": "kafka",
    "PLORA_INGEST_ADDRESS": "broker:9092",
    "PLORA_INGEST_USERNAME": "plora",
    "PLORA_INGEST_PASSWORD_FILE": "/broker/password",
    "PLORA_INGEST_TLS": "true",
    "PLORA_INGEST_CA_FILE": "/broker/ca.crt",
}
EXCLUDED = {"PLORA_OIDC_JWKS_FILE": "PLORA_OIDC_JWKS_URL"}  # what cannot be chosen beside something else


def choose() -> dict[str, str]:
    """Variable to text. Raises AssertionError for a setting for which no accepted value was found."""
    hints = dict(_hints(Settings, PREFIX))
    chosen = dict(TOGETHER)
    for name, default in defaults():
        if name in chosen or name in EXCLUDED:
            continue
        accepted = (text for text in _candidates(default, hints[name]) if _is_accepted(chosen | {name: text}))
        found = next((text for text in accepted if load(chosen | {name: text}) != load(chosen)), None)
        assert found is not None, f"{name}: say in TOGETHER which value the test may take"
        chosen[name] = found
    return chosen


def paths(kind: type = Settings, above: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Every variable with the fields that lead to it: PLORA_TRIGGER_MIN_FRESH is ("trigger", "min_fresh")."""
    for name, hint in get_type_hints(kind).items():
        if isinstance(hint, type) and is_dataclass(hint):
            yield from paths(hint, (*above, name))
        else:
            yield f"{PREFIX}{'_'.join((*above, name)).upper()}", (*above, name)


def _hints(kind: type, prefix: str) -> Iterator[tuple[str, object]]:
    for name, hint in get_type_hints(kind).items():
        variable = f"{prefix}{name.upper()}"
        if isinstance(hint, type) and is_dataclass(hint):
            yield from _hints(hint, f"{variable}_")
        else:
            yield variable, hint


def _candidates(default: object, hint: object) -> Iterator[str]:
    if type(None) in get_args(hint):
        hint = next(each for each in get_args(hint) if each is not type(None))
    if get_origin(hint) is Literal:
        yield from (each for each in get_args(hint) if each != default)
    elif hint is bool:
        yield "false" if default else "true"
    elif hint is int:
        start = default if isinstance(default, int) else 1
        yield from map(str, (start + 1, start - 1, start * 2, start // 2, 1, 2, 16, 4096))
    elif hint is float:
        start = default if isinstance(default, float) else 1.0
        yield from map(str, (start * 1.25, start * 0.5, 0.25, 0.005, 2.5, 30.0))
    else:
        yield from ("chosen", "/chosen", "https://chosen.example.org", "s3://chosen/place", "127.0.0.2")


def _is_accepted(environ: dict[str, str]) -> bool:
    try:
        load(environ)
    except DaemonError:
        return False
    return True


def as_values(chosen: dict[str, str]) -> dict[str, object]:
    """The choices as values of the chart, but for what follows from other values."""
    settings: dict[str, object] = {}
    for name, path in paths():
        if name not in chosen or "_".join(path) in CHART_SETS:
            continue
        node = settings
        for step in path[:-1]:
            node = node.setdefault(to_camel(step), {})  # type: ignore[assignment]
        node[to_camel(path[-1])] = _plain(chosen[name])
    return {"settings": settings}


def _plain(text: str) -> object:
    """As a person writes it in YAML: a number as a number, true as true."""
    try:
        return json.loads(text)
    except ValueError:
        return text
