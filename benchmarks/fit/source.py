"""The base model, and the same files as plain Hugging Face modules for those who know nothing of plora."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import transformers
from torch import nn
from transformers import AutoModelForSequenceClassification

import plora
from plora import BaseModel
from plora.basemodel import MINILM, MINILM_PACKAGE

MAX_TOKENS = 64
"""Longer texts are cut, for everybody alike."""


@dataclass(frozen=True, slots=True)
class Source:
    """A loaded base model and the folder its files are in."""

    folder: str
    base: BaseModel = field(repr=False)

    def fresh(self, labels: int) -> nn.Module:
        """The Hugging Face classifier, read anew, with an untrained head."""
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        module: nn.Module = AutoModelForSequenceClassification.from_pretrained(self.folder, num_labels=labels)
        return module.to(self.base.device)


def open_source(model: str = MINILM) -> Source:
    """`model` is "minilm" or a folder. Raises BaseModelNotFound and WrongModelFile."""
    base = plora.load(model, max_tokens=MAX_TOKENS)
    if model != MINILM:
        return Source(model, base)
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    places: Sequence[str] = spec.submodule_search_locations or () if spec else ()
    return Source(str(Path(places[0]) / "model"), base)
