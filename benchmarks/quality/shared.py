"""What the methods of one fold share: the base model, the populations trained on the fold, embeddings of texts."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

import plora
from benchmarks.quality.fits import Fits
from benchmarks.quality.folds import Fold, digest
from benchmarks.quality.regressions import Pooled
from benchmarks.quality.settings import Settings
from plora import BaseModel, MutualInformation, Population, PopulationSettings

EMBEDDED_AT_A_TIME = 32


class Shared:
    """Everything is made when it is first asked for, and once; trained populations are kept in `folder`."""

    def __init__(self, fold: Fold, settings: Settings, folder: Path | None = None) -> None:
        self.fold, self.settings = fold, settings
        self._folder = folder
        self._embedded: dict[str, Tensor] = {}
        self._open: list[Fits] = []

    @cached_property
    def base(self) -> BaseModel:
        """The frozen model; texts are cut to `settings.max_tokens` for everybody alike."""
        return plora.load(self.settings.model, max_tokens=self.settings.max_tokens)

    @cached_property
    def ours(self) -> Population:
        """The library's population training with its defaults."""
        return self._trained(self.population_settings)

    @cached_property
    def unbiased(self) -> Population:
        """The same without a label bias in the user's vector."""
        return self._trained(replace(self.population_settings, label_bias=False))

    @cached_property
    def plain(self) -> Population:
        """LoRA and head alone: every example is learned with nobody's vector."""
        chosen = replace(
            self.population_settings,
            label_bias=False,
            personalized_dropout=1.0,
            mutual_information=MutualInformation.NONE,
        )
        return self._trained(chosen)

    @property
    def population_settings(self) -> PopulationSettings:
        """Of our population training on this fold."""
        link = self.settings.link(ordered=self.fold.ordinal)
        return replace(self.settings.population, link=link, seed=self.fold.seed)

    @cached_property
    def fits(self) -> Fits:
        """Of `ours`."""
        return self._fits(self.ours)

    @cached_property
    def unbiased_fits(self) -> Fits:
        """Of `unbiased`."""
        return self._fits(self.unbiased)

    @cached_property
    def pooled(self) -> Pooled:
        """One regression on the population's embeddings. Raises SklearnAbsent."""
        return Pooled(self.fold, self.embeddings)

    def embeddings(self, texts: Sequence[str]) -> Tensor:
        """(texts, width) float32: the base model's last hidden states, averaged over a text's tokens, of length 1."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._embedded]
        missing.sort(key=len)  # so that texts of one batch need little padding
        for start in range(0, len(missing), EMBEDDED_AT_A_TIME):
            part = missing[start : start + EMBEDDED_AT_A_TIME]
            self._embedded |= dict(zip(part, _embed(self.base, part), strict=True))
        return torch.stack([self._embedded[text] for text in texts])

    def close(self) -> None:
        """Zero and drop what is held of texts."""
        for fits in self._open:
            fits.close()
        self._open.clear()
        self._embedded.clear()

    def _fits(self, population: Population) -> Fits:
        made = Fits(self.base, population.basis, self.fold.labels, self.settings.fit)
        self._open.append(made)
        return made

    def _trained(self, settings: PopulationSettings) -> Population:
        def train() -> Population:
            return plora.train_population(self.base, [person.learn for person in self.fold.population], settings)

        if self._folder is None:
            return train()
        words = f"{self.base.fingerprint}|{self.base.max_tokens}|{settings!r}|{digest(self.fold)}"
        return _kept(self._folder / hashlib.sha256(words.encode()).hexdigest()[:24], train)


def _kept(place: Path, train: Callable[[], Population]) -> Population:
    """Read from `place`, or trained and written there; the loss of each epoch is not kept."""
    basis, vectors = place.with_suffix(".basis"), place.with_suffix(".vectors")
    if basis.exists() and vectors.exists():
        return Population(plora.loads_basis(basis.read_bytes()), load_safetensors(vectors.read_bytes())["vectors"], ())
    made = train()
    place.parent.mkdir(parents=True, exist_ok=True)
    _replace(basis, plora.dumps(made.basis))
    _replace(vectors, save_safetensors({"vectors": made.vectors.detach().cpu().contiguous()}))
    return made


def _replace(file: Path, content: bytes) -> None:
    """Whole or not at all: a process may be killed at any line."""
    fresh = file.with_name(file.name + ".new")
    fresh.write_bytes(content)
    fresh.replace(file)


@torch.no_grad()
def _embed(base: BaseModel, texts: Sequence[str]) -> Tensor:
    found = base.tokenizer(list(texts), truncation=True, max_length=base.max_tokens, padding=True, return_tensors="pt")
    body = getattr(base.module, "base_model")  # noqa: B009 - a Module's attribute is a Module or a Tensor to mypy
    mask = found["attention_mask"].to(base.device)
    hidden = body(input_ids=found["input_ids"].to(base.device), attention_mask=mask).last_hidden_state
    mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1)
    return torch.nn.functional.normalize(mean.float(), dim=-1).cpu()
