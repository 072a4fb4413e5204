"""`config check`: what the settings are, secrets masked, and whether what they name is there. Changes nothing."""

import os
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from daemon.errors import DaemonError
from daemon.keyring import open_ring
from daemon.migrating import check as check_schema
from daemon.settings import PREFIX, Settings, defaults
from storage import KeyRingMissing, StorageError, StoreInUse
from storage.volumes import refuse_network

Answer = dict[str, object]
MASK = "***"
FINE = "ok"
SECRET = ("_PASSWORD", "_TOKEN", "_SECRET")


def check(settings: Settings) -> Answer:
    """Every setting that is not as by default, and a finding for each place; `ok` where none is wrong."""
    usual = dict(defaults())
    chosen = {name: shown for name, value, shown in _told(settings, PREFIX) if value != usual[name]}
    findings = {name: _finding(look, settings) for name, look in LOOKS.items()}
    return {
        "ok": all(each.startswith(FINE) for each in findings.values()),
        "findings": findings,
        "settings": chosen,
        "by_default": len(usual) - len(chosen),
    }


def masked(address: str) -> str:
    """An address without its password and without what may be one: everything in its query."""
    parts = urlsplit(address)
    if not parts.scheme or "://" not in address:
        return address
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    query = MASK if parts.query else ""
    return urlunsplit((parts.scheme, f"{name}{colon and colon + MASK}{at}{host}", parts.path, query, ""))


def _told(value: object, prefix: str) -> Iterator[tuple[str, object, object]]:
    """Name, value and what is shown of it."""
    for each in fields(value):  # type: ignore[arg-type]  # a group of settings
        inner, name = getattr(value, each.name), f"{prefix}{each.name.upper()}"
        if is_dataclass(inner):
            yield from _told(inner, f"{name}_")
        else:
            yield name, inner, MASK if inner and name.endswith(SECRET) else _shown(inner)


def _shown(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    return masked(value) if isinstance(value, str) else value


def _finding(look: Callable[[Settings], str], settings: Settings) -> str:
    try:
        return look(settings)
    except (DaemonError, StorageError) as problem:
        return str(problem)
    except OSError as problem:
        return f"{problem.strerror or type(problem).__name__}"


def _keys(settings: Settings) -> str:
    try:
        ring = open_ring(settings)
    except KeyRingMissing:
        if settings.keys_path.exists() and any(settings.keys_path.iterdir()):
            raise
        return f"{FINE}: there is no key ring yet, the first start makes one"
    ring.refuse_beside(settings.data_dir)
    return f"{FINE}: {len(ring.epochs())} key epochs in {ring.provider}" + (", read-only" if ring.read_only else "")


def _data(settings: Settings) -> str:
    place = next(each for each in (settings.data_dir.resolve(), *settings.data_dir.resolve().parents) if each.exists())
    if not settings.database_url:
        refuse_network(place)
    return FINE if os.access(place, os.W_OK | os.X_OK) else f"{place} can not be written by user {os.geteuid()}"


def _database(settings: Settings) -> str:
    try:
        found = check_schema(settings)
    except StoreInUse:
        return f"{FINE}: a running daemon has it open"
    if found["ok"]:
        return f"{FINE}: schema {found['schema']}"
    automatic = settings.database_migrate == "auto"
    return f"{FINE}: the next start migrates it to {found['needed']}" if automatic else str(found["problem"])


LOOKS: dict[str, Callable[[Settings], str]] = {"keys": _keys, "data": _data, "database": _database}
