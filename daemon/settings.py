"""What an operator can choose: read once from `PLORA_*` variables, checked, then never changed.

A field named `lease_s` is the variable PLORA_LEASE_S. A group such as `trigger` holds the very value
that the policy takes: its field `min_fresh` is PLORA_TRIGGER_MIN_FRESH.
"""

import difflib
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

from daemon import addresses
from daemon.choices import BasisChoices, Bounds, FitChoices
from daemon.errors import DaemonError
from daemon.heartbeat import HeartbeatChoices
from daemon.identity import IdentityChoices, WrongIdentity
from daemon.ingest.choices import IngestChoices, WrongIngest
from daemon.limits import Rates
from daemon.telemetry_choices import MOST_QUEUED, OtlpChoices
from policies import PolicyError
from policies.attempts import Patience
from policies.drift import Watch
from policies.hold import Doubt
from policies.promotion import Bar
from policies.refit import Growth
from policies.retention import Rules
from policies.selection import Budget
from policies.trigger import Limits
from storage.providers.choices import KmsChoices, VaultChoices

PREFIX = "PLORA_"
FOREIGN = frozenset({"PLORA_DATA", "PLORA_RELIABILITY", "PLORA_TOOLS"})  # of tests and benchmarks
MOST_CLAIMED = 4_096
MOST_ERASE_DAYS = 30.0
MOST_LINGER_S = 5.0
BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
NUMBERS: Mapping[object, str] = {int: "a whole number", float: "a number"}
T = TypeVar("T")


class SettingsError(DaemonError):
    """The environment asks for something that the daemon cannot be."""


class UnknownSetting(SettingsError):
    """A PLORA_* variable that nothing reads: most likely a typing error."""

    def __init__(self, name: str, nearest: str | None) -> None:
        super().__init__(name, nearest)
        self.name, self.nearest = name, nearest

    def __str__(self) -> str:
        hint = f"; did you mean {self.nearest}?" if self.nearest else ""
        return f"{self.name} is set, but no such setting exists{hint}"


class InvalidSetting(SettingsError):
    """A setting whose value does not fit."""

    def __init__(self, name: str, needed: str) -> None:
        super().__init__(name, needed)
        self.name, self.needed = name, needed

    def __str__(self) -> str:
        return f"{self.name} must be {self.needed}"


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the daemon is told at start."""

    data_dir: Path = Path("var")
    database_url: str = field(default="", repr=False)  # postgresql://...; empty: an SQLite file in the data directory
    database_migrate: Literal["auto", "never"] = "auto"  # never: wait until `migrate` has been run
    keys_dir: Path | None = None
    keys_provider: Literal["file", "vault", "kms"] = "file"  # of the key epochs; all other keys are files
    export_url: str = ""  # empty: a directory next to the data
    erase_after_days: float = 7.0
    blobs_url: str = ""  # s3://bucket/prefix or a directory; empty: in the data directory
    s3_endpoint: str = ""  # of a server that is not Amazon's
    s3_region: str = ""
    host: str = "127.0.0.1"
    port: int = 8470
    url: str | None = None
    tenant: str = "default"
    default_consent: bool = False
    log_format: Literal["json", "text"] = "text"

    model: str = "minilm"
    model_kind: Literal["classification", "causal-lm"] = "classification"
    model_revision: str | None = None
    max_tokens: int = 128
    device: str = "auto"
    trainer: Literal["ray", "in-process"] = "ray"
    trainer_url: str | None = None
    trainer_recycle: int = 500  # cohorts, after which a replica makes way for a new process; 0: never
    replicas: int = 1
    threads: int = 0  # 0: the machine's cores, shared among the replicas

    tick_s: float = 1.0
    lease_s: float = 60.0
    linger_s: float = 0.5
    claim_limit: int = 256

    max_event_bytes: int = 65_536
    max_batch_bytes: int = 1_048_576
    max_batch_events: int = 500
    max_predict_inputs: int = 256

    trigger: Limits = field(default_factory=Limits)
    attempts: Patience = field(default_factory=Patience)
    selection: Budget = field(default_factory=Budget)
    promotion: Bar = field(default_factory=Bar)
    drift: Watch = field(default_factory=Watch)
    hold: Doubt = field(default_factory=Doubt)
    retention: Rules = field(default_factory=Rules)
    basis: BasisChoices = field(default_factory=BasisChoices)
    fit: FitChoices = field(default_factory=FitChoices)
    refit: Growth = field(default_factory=Growth)
    gate: Bounds = field(default_factory=Bounds)
    rate: Rates = field(default_factory=Rates)
    oidc: IdentityChoices = field(default_factory=IdentityChoices)
    heartbeat: HeartbeatChoices = field(default_factory=HeartbeatChoices)
    otlp: OtlpChoices = field(default_factory=OtlpChoices)
    ingest: IngestChoices = field(default_factory=IngestChoices)
    vault: VaultChoices = field(default_factory=VaultChoices)
    kms: KmsChoices = field(default_factory=KmsChoices)

    def __post_init__(self) -> None:
        for name in ("replicas", "claim_limit", "max_event_bytes", "max_tokens"):
            _need(getattr(self, name) >= 1, name, "1 or more")
        _need(self.trainer_recycle >= 0, "trainer_recycle", "0 or more")
        _need(self.claim_limit <= MOST_CLAIMED, "claim_limit", f"at most {MOST_CLAIMED}")
        for name in ("tick_s", "lease_s"):
            _need(getattr(self, name) > 0, name, "a number of seconds above 0")
        _need(0 <= self.linger_s <= MOST_LINGER_S, "linger_s", f"from 0 to {MOST_LINGER_S:g} seconds")
        for name in ("min_users", "max_users", "dim", "rank", "epochs", "accumulate", "patience", "window", "workers"):
            value = getattr(self.basis, name)
            _need(value is None or value >= 1, f"basis_{name}", "1 or more")
        rate, share = self.basis.learning_rate, self.basis.held_out
        _need(rate is None or rate > 0, "basis_learning_rate", "a number above 0")
        _need(share is None or 0 < share < 1, "basis_held_out", "a share between 0 and 1")
        _need(
            self.fit.epsilon is None or 0 < self.fit.epsilon <= 100, "fit_epsilon", "above 0 and at most 100, or empty"
        )
        _need(
            self.fit.epsilon is None or self.fit.optimizer != "adam",
            "fit_epsilon",
            "empty with PLORA_FIT_OPTIMIZER adam",
        )
        _need(0 < self.fit.delta <= 0.01, "fit_delta", "above 0 and at most 0.01")
        _need(self.fit.clip > 0, "fit_clip", "a number above 0")
        _need(1 << 10 <= self.basis.shard_bytes <= 1 << 26, "basis_shard_bytes", "from 1024 to 67108864")
        _need(0 <= self.port <= 65_535, "port", "a port from 0 to 65535")
        for name in ("most", "most_norm"):
            _need(getattr(self.gate, name) > 0, f"gate_{name}", "a number above 0")
        bucket = self.blobs_url.removeprefix("s3://").strip() if self.blobs_url.startswith("s3://") else None
        is_place = "://" not in self.blobs_url if bucket is None else not bucket.startswith("/") and bucket != ""
        _need(is_place, "blobs_url", "s3://bucket/prefix, a directory or empty")
        _need(self.max_batch_bytes >= self.max_event_bytes, "max_batch_bytes", "PLORA_MAX_EVENT_BYTES or more")
        for name in ("url", "trainer_url"):
            address = getattr(self, name)
            flaw = addresses.flaw(address, secret=False) if address else None
            _need(flaw is None, name, flaw or "")
        flaw = addresses.flaw(self.otlp.endpoint, secret=False) if self.otlp.endpoint else None
        _need(flaw is None, "otlp_endpoint", flaw or "")
        every_s = self.heartbeat.every_s
        _need(every_s == 0 or 1 <= every_s <= 86_400, "heartbeat_every_s", "0, or from 1 to 86400 seconds")
        _need(0 <= self.otlp.sample <= 1, "otlp_sample", "from 0 to 1")
        _need(1 <= self.otlp.queue <= MOST_QUEUED, "otlp_queue", f"from 1 to {MOST_QUEUED}")
        _need(self.otlp.timeout_s > 0, "otlp_timeout_s", "a number of seconds above 0")
        local = addresses.flaw(self.vault.addr, secret=True) if self.vault.addr else "the address of Vault"
        _need(self.keys_provider != "vault" or local is None, "vault_addr", local or "")
        keys, data = self.keys_path.resolve(), self.data_dir.resolve()
        _need(not keys.is_relative_to(data), "keys_dir", "a directory outside PLORA_DATA_DIR")
        _need(0 < self.erase_after_days <= MOST_ERASE_DAYS, "erase_after_days", f"above 0, at most {MOST_ERASE_DAYS:g}")
        if "://" not in (place := self.exports_place):
            apart = not Path(place).resolve().is_relative_to(data)
            _need(apart, "export_url", "a directory outside PLORA_DATA_DIR, or s3://bucket/prefix")

    @property
    def keys_path(self) -> Path:
        """Where the keys lie: next to the data, never inside, so that one copy cannot take both."""
        data = self.data_dir.resolve()
        return self.keys_dir or data.with_name(f"{data.name}-keys")

    @property
    def exports_place(self) -> str:
        """Where erasures and audit checkpoints are exported to: apart from the data, so that one loss is not both."""
        data = self.data_dir.resolve()
        return self.export_url or str(data.with_name(f"{data.name}-export"))

    @property
    def store_url(self) -> str:
        """The SQLAlchemy URL of the database."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'plora.db'}"

    @property
    def blobs_path(self) -> Path:
        """Where sealed bases lie, unless PLORA_BLOBS_URL says another place."""
        return self.data_dir / "blobs"

    @property
    def base_url(self) -> str:
        """Where clients of the daemon on this machine find it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (self.url or f"http://{host}:{self.port}").rstrip("/")


def load(environ: Mapping[str, str]) -> Settings:
    """The Settings that `environ` asks for. Raises UnknownSetting or InvalidSetting."""
    given = {name: value for name, value in environ.items() if name.startswith(PREFIX) and name not in FOREIGN}
    known = [name for name, _ in defaults()]
    for name in sorted(given):
        if name not in known:
            raise UnknownSetting(name, next(iter(difflib.get_close_matches(name, known, n=1)), None))
    return _build(Settings, PREFIX, given)


def defaults(kind: type = Settings, prefix: str = PREFIX) -> Iterator[tuple[str, object]]:
    """Every variable that `load` reads, with its default."""
    hints = get_type_hints(kind)
    for each in fields(kind):
        name = f"{prefix}{each.name.upper()}"
        if is_dataclass(hints[each.name]):
            yield from defaults(hints[each.name], f"{name}_")
        else:
            yield name, each.default


def _build(kind: type[T], prefix: str, given: Mapping[str, str]) -> T:
    values: dict[str, object] = {}
    for name, hint in get_type_hints(kind).items():
        variable = f"{prefix}{name.upper()}"
        if isinstance(hint, type) and is_dataclass(hint):
            values[name] = _build(hint, f"{variable}_", given)
        elif variable in given:
            values[name] = _parse(variable, given[variable], hint)
    try:
        return kind(**values)
    except PolicyError as error:  # a policy's own check of its limits
        raise InvalidSetting(f"{prefix}*", f"acceptable: {error}") from error
    except (WrongIdentity, WrongIngest) as error:
        raise InvalidSetting(f"{prefix}{error.field.upper()}", error.needed) from None


def _parse(name: str, text: str, hint: object) -> object:
    choices = get_args(hint)
    if get_origin(hint) is Literal:
        if text not in choices:
            raise InvalidSetting(name, f"one of {', '.join(choices)}")
        return text
    if type(None) in choices:
        return None if text == "" else _parse(name, text, next(c for c in choices if c is not type(None)))
    if hint is bool:
        if text.lower() not in BOOLEANS:
            raise InvalidSetting(name, "true or false")
        return BOOLEANS[text.lower()]
    if hint in NUMBERS:
        try:
            number = int(text) if hint is int else float(text)
        except ValueError:
            raise InvalidSetting(name, NUMBERS[hint]) from None
        if not math.isfinite(number):
            raise InvalidSetting(name, NUMBERS[hint])
        return number
    return _path(name, text) if hint is Path else text


def _path(name: str, text: str) -> Path:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        raise InvalidSetting(name, "a path that this system can name") from None
    return Path(text).expanduser()


def _need(holds: bool, name: str, needed: str) -> None:
    if not holds:
        raise InvalidSetting(f"{PREFIX}{name.upper()}", needed)
