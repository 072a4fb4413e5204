"""The values under `settings`, derived from the daemon's own settings so that none can be missing or misspelt."""

from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.alias_generators import to_camel

from daemon.settings import Settings

CHART_SETS = {
    "data_dir": "a volume",
    "keys_dir": "a volume",
    "database_url": "database.existingSecret",
    "database_migrate": "migrations.mode",
    "host": "every address of the pod",
    "port": "8470, behind daemon.service.port",
    "trainer": "ray.mode",
    "trainer_url": "ray.mode",
    "replicas": "ray.trainer",
    "vault_token_file": "keys.vaultToken",
    "ingest_host": "every address of the pod",
    "ingest_port": "8471",
    "ingest_token_file": "ingest.token",
    "ingest_password_file": "ingest.password",
    "ingest_ca_file": "ingest.brokerCa",
}
"""Settings that follow from other values: field to where."""
DEFAULTS: dict[str, Any] = {"log_format": "json"}
"""Where a pod's default differs from a laptop's."""
CLOSED = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


def _model(kind: type, prefix: str, name: str) -> type[BaseModel]:
    hints = get_type_hints(kind)
    made: dict[str, Any] = {}
    for each in fields(kind):
        path = f"{prefix}{each.name}"
        if path in CHART_SETS:
            continue
        if is_dataclass(hints[each.name]):
            below = _model(hints[each.name], f"{path}_", f"{name}{each.name.title()}")
            made[each.name] = (below, Field(default_factory=below, description=f"PLORA_{path.upper()}_*."))
        else:
            default = DEFAULTS.get(path, each.default)
            if default is MISSING or isinstance(default, Path):
                default = str(default) if isinstance(default, Path) else None
            made[each.name] = (_hint(hints[each.name]), Field(default=default, description=f"PLORA_{path.upper()}."))
    return create_model(name, __config__=CLOSED, **made)


def _hint(hint: Any) -> Any:
    """The type of a value: paths are text, numbers are numbers."""
    options = get_args(hint)
    if get_origin(hint) is Literal:
        return hint
    if type(None) in options:
        return _hint(next(each for each in options if each is not type(None))) | None
    return str if hint is Path else hint


SettingsValues = _model(Settings, "", "SettingsValues")
