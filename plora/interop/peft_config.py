"""adapter_config.json: what is read of it, strictly, and what is written.

PEFT matches names by regular expressions from the file. A stranger's expression can take for ever, so only names,
with an anchor or dots at most, are matched here; other expressions are refused.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from plora.basis import block_of
from plora.errors import AdapterRejected
from plora.tensorfile import read_json

from .errors import NotRepresentable

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
MAX_CONFIG_BYTES = 64 << 10
MAX_RANK = 4096
USED = frozenset(
    [
        "peft_type",
        "r",
        "lora_alpha",
        "use_rslora",
        "rank_pattern",
        "alpha_pattern",
        "target_modules",
        "exclude_modules",
        "layers_to_transform",
        "layers_pattern",
        "modules_to_save",
        "lora_bias",
        "init_lora_weights",
    ]
)
WITHOUT_EFFECT = frozenset(
    [
        "auto_mapping",
        "base_model_name_or_path",
        "revision",
        "inference_mode",
        "task_type",
        "peft_version",
        "lora_dropout",
        "fan_in_fan_out",
        "megatron_core",
        "qalora_group_size",
        "eva_config",
        "runtime_config",
        "ensure_weight_tying",
    ]
)
"""Options that change nothing of what a finished adapter computes on a base that is loaded already."""
OTHERS = frozenset(
    [
        "bias",
        "use_dora",
        "use_qalora",
        "use_bdlora",
        "alora_invocation_tokens",
        "arrow_config",
        "kasa_config",
        "velora_config",
        "monteclora_config",
        "layer_replication",
        "trainable_token_indices",
        "target_parameters",
        "megatron_config",
        "loftq_config",
        "corda_config",
        "lora_ga_config",
    ]
)
"""Options that must be off: each changes the base's weights, the forward, or what the tensors mean."""
HARMLESS_STARTS = (True, False, "gaussian", "eva", "orthogonal")
"""Ways to begin a LoRA that leave the base's weights alone; PiSSA, OLoRA, CorDA and LoftQ do not."""
Value = TypeVar("Value", int, float)
PATTERN = re.compile(r"\^?(?:[A-Za-z0-9_]|\\?\.)+")


@dataclass(frozen=True, slots=True)
class PeftFacts:
    """What a LoRA's configuration says of its tensors. `targets` None is every linear layer."""

    rank: int
    alpha: float
    rslora: bool
    ranks: Mapping[str, int]
    alphas: Mapping[str, float]
    targets: tuple[str, ...] | None
    excluded: tuple[str, ...]
    layers: frozenset[int] | None
    saved: tuple[str, ...]
    biased: bool

    def rank_of(self, module: str) -> int:
        return _pattern(self.ranks, module, self.rank)

    def scale_of(self, module: str) -> float:
        rank = self.rank_of(module)
        return _pattern(self.alphas, module, self.alpha) / (math.sqrt(rank) if self.rslora else rank)

    def adapts(self, module: str) -> bool:
        """Whether PEFT would put a LoRA there."""
        if any(_ends(module, name) for name in self.excluded) or any(_within(module, name) for name in self.saved):
            return False
        if self.targets is None or module in self.targets:
            return True
        ends = any(module.endswith(f".{name}") for name in self.targets)
        return ends and (self.layers is None or block_of(module) in self.layers)


def read_config(data: bytes) -> PeftFacts:
    """Raises AdapterRejected for what is no configuration, NotRepresentable for what we do not compute."""
    if len(data) > MAX_CONFIG_BYTES:
        raise AdapterRejected("too_large", CONFIG, f"{len(data)} bytes")
    told = read_json(data, "config_json")
    if not isinstance(told, dict):
        raise AdapterRejected("config_json", CONFIG, "not an object")
    if told.get("peft_type") != "LORA":
        raise NotRepresentable("peft_type", "only LORA is read")
    for name in sorted(told.keys() - USED - WITHOUT_EFFECT):
        _need_off(name, told[name])
    start = told.get("init_lora_weights", True)
    if not any(start is each or (isinstance(start, str) and start == each) for each in HARMLESS_STARTS):
        raise NotRepresentable("init_lora_weights", "this start may have changed the base model's own weights")
    return PeftFacts(
        rank=_rank(told.get("r", 8)),
        alpha=_number(told.get("lora_alpha", 8), "lora_alpha"),
        rslora=_flag(told, "use_rslora"),
        ranks={key: _rank(value) for key, value in _patterns(told, "rank_pattern").items()},
        alphas={key: _number(value, "alpha_pattern") for key, value in _patterns(told, "alpha_pattern").items()},
        targets=_targets(told.get("target_modules")),
        excluded=_names(told, "exclude_modules"),
        layers=_layers(told),
        saved=_names(told, "modules_to_save"),
        biased=_flag(told, "lora_bias"),
    )


def write_config(
    targets: Sequence[str], rank: int, *, biased: bool, transposed: bool, saved: Sequence[str], base: str | None
) -> bytes:
    """The bytes for tensors whose scale is 1: the same facts give the same bytes."""
    told = {
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "task_type": None,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "target_modules": sorted(targets),
        "modules_to_save": sorted(saved) or None,
        "fan_in_fan_out": transposed,
        "bias": "none",
        "lora_bias": biased,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
    }
    return json.dumps(told, indent=2, sort_keys=True).encode()


def _need_off(name: str, value: object) -> None:
    if value is None or value is False or value in ("none", [], {}):
        return
    raise NotRepresentable(name if name in OTHERS else "unknown", "it changes what the adapter computes")


def _rank(told: object) -> int:
    if type(told) is not int or not 1 <= told <= MAX_RANK:
        raise AdapterRejected("config_facts", "rank", f"not a whole number from 1 to {MAX_RANK}")
    return told


def _number(told: object, name: str) -> float:
    if isinstance(told, bool) or not isinstance(told, int | float) or not abs(told) <= 1e6:
        raise AdapterRejected("config_facts", name, "not a number, or too large")
    return float(told)


def _flag(told: Mapping[str, object], name: str) -> bool:
    value = told.get(name) or False
    if not isinstance(value, bool):
        raise AdapterRejected("config_facts", name, "neither true nor false")
    return value


def _patterns(told: Mapping[str, object], name: str) -> dict[str, object]:
    value = told.get(name) or {}
    if not isinstance(value, dict):
        raise AdapterRejected("config_facts", name, "not an object")
    if not all(PATTERN.fullmatch(key) for key in value):
        raise NotRepresentable(name, "a regular expression of a stranger is not run; name the modules")
    return cast(dict[str, object], value)


def _targets(told: object) -> tuple[str, ...] | None:
    if told == "all-linear":
        return None
    if isinstance(told, str):
        raise NotRepresentable("target_modules", "a regular expression of a stranger is not run; name the modules")
    return _texts(told or [], "target_modules")


def _names(told: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = told.get(name) or []
    if isinstance(value, str):
        raise NotRepresentable(name, "a regular expression of a stranger is not run; name the modules")
    return _texts(value, name)


def _texts(told: object, name: str) -> tuple[str, ...]:
    if not isinstance(told, list) or not all(isinstance(each, str) and each for each in told):
        raise AdapterRejected("config_facts", name, "not a list of names")
    return tuple(told)


def _layers(told: Mapping[str, object]) -> frozenset[int] | None:
    value = told.get("layers_to_transform")
    if value is None or value == []:
        return None
    if told.get("layers_pattern"):
        raise NotRepresentable("layers_pattern", "name the modules instead")
    each = cast(Iterable[object], value) if isinstance(value, list) else (value,)
    found = [index for index in each if type(index) is int]
    if len(found) != len(value if isinstance(value, list) else (value,)):
        raise AdapterRejected("config_facts", "layers_to_transform", "not whole numbers")
    return frozenset(found)


def _pattern(patterns: Mapping[str, Value], module: str, usual: Value) -> Value:
    found = (value for key, value in patterns.items() if re.match(rf"(?:.*\.)?(?:{key})$", module))
    return next(found, usual)


def _ends(module: str, name: str) -> bool:
    return module == name or module.endswith(f".{name}")


def _within(module: str, name: str) -> bool:
    """Whether a module is, or lies in, one of that name."""
    return f".{name}." in f".{module}."
