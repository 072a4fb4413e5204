"""Basis: what all users of one base model and one task share, as an immutable value."""

import copy
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from .errors import TargetsNotFound
from .layer import last_linear, shape_of
from .links import Link, Thresholds
from .spec import BasisSpec, Kind

__all__ = [
    "HEADS",
    "USUAL_TARGETS",
    "Basis",
    "BasisSpec",
    "Kind",
    "block_of",
    "canonical",
    "contrasts",
    "find_targets",
    "fresh_basis",
    "fresh_head",
]

HEADS = ("classifier", "score")
"""Names under which sequence classifiers of the field keep their task head."""

USUAL_TARGETS = ("query", "value", "q_proj", "v_proj", "c_attn")
"""The method's targets: query and value of BERT-like and Llama-like models; GPT-2 fuses them with key."""


@dataclass(frozen=True, slots=True)
class Basis:
    """A, B and P for every target, the task head, and the mean of the population's vectors.

    `tensors` holds "A.<target>" (rank, d_in), "B.<target>" (d_out, rank), "P.<target>" (rank, d), "head.<name>",
    "prior.mean" (d) and, with a label bias or mixing, "C" (outputs, d) and "M" (d, outputs, width of the head).
    Vectors are whitened, label bias and content apart: over the population they have unit variance in every direction,
    so a plain squared norm is the empirical-Bayes penalty and N(mean, 1) draws strangers who are nobody.
    """

    spec: BasisSpec
    tensors: Mapping[str, Tensor] = field(repr=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "tensors", MappingProxyType(dict(self.tensors)))
        object.__setattr__(self, "fingerprint", hashlib.sha256(canonical(self.spec, self.tensors)).hexdigest())

    @property
    def base(self) -> str:
        return self.spec.base

    @property
    def kind(self) -> Kind:
        return self.spec.kind

    @property
    def labels(self) -> tuple[str, ...]:
        return self.spec.labels

    @property
    def prior_mean(self) -> Tensor:
        return self.tensors["prior.mean"]

    def divergence(self, vector: Tensor, other: Tensor | None = None) -> float:
        """Nats: how far `vector` moves the model's answers from `other`'s, or from the generic model's.

        The mean KL divergence over the examples that the Basis kept for reference when it was trained, to second
        order: 1/2 move' F move, F their mean Fisher information, "prior.fisher". NaN for a Basis that has none.
        """
        fisher = self.tensors.get("prior.fisher")
        if fisher is None:
            return math.nan
        move = (vector if other is None else vector - other).double().cpu()
        return float(0.5 * move @ fisher.double() @ move)

    def label_bias(self, vector: Tensor) -> Tensor:
        """(..., d) the same label bias without content: the generic model, but with the user's own label shares."""
        kept = torch.arange(self.spec.dimensions) < self.spec.bias
        return vector * kept.to(vector)

    def head(self) -> dict[str, Tensor]:
        """The task head's state, by parameter name."""
        return {name.removeprefix("head."): value for name, value in self.tensors.items() if name.startswith("head.")}


def canonical(spec: BasisSpec, tensors: Mapping[str, Tensor]) -> bytes:
    """The one safetensors form of a Basis: what its fingerprint covers and its file carries."""
    meta = {
        "format": 1,
        "base": spec.base,
        "kind": spec.kind.value,
        "labels": spec.labels,
        "targets": spec.targets,
        "rank": spec.rank,
        "alpha": spec.alpha,
        "dimensions": spec.dimensions,
    }
    if spec.link is not Link.CATEGORICAL:  # absent in the files of the first release
        meta["link"] = spec.link.value
    if spec.personal_head:
        meta |= {"bias": spec.bias, "mixing": spec.mixing}
    ordered = {name: tensors[name].detach().cpu().float().contiguous() for name in sorted(tensors)}
    return save_safetensors(ordered, {"plora": json.dumps(meta, sort_keys=True)})


def find_targets(
    module: nn.Module, suffixes: tuple[str, ...] = USUAL_TARGETS, last_layers: int | None = None
) -> tuple[str, ...]:
    """Full names of the linear modules whose last name is in `suffixes`, in the last `last_layers` blocks or all.

    Raises TargetsNotFound, which lists what the model does have.
    """
    linear = [name for name, child in module.named_modules() if shape_of(child) is not None]
    found = [name for name in linear if name.rsplit(".", 1)[-1] in suffixes]
    if not found:
        raise TargetsNotFound(suffixes, tuple(sorted({name.rsplit(".", 1)[-1] for name in linear})))
    if last_layers is None:
        return tuple(found)
    blocks = sorted({block_of(name) for name in found})
    kept = set(blocks[-last_layers:])
    return tuple(name for name in found if block_of(name) in kept)


def block_of(name: str) -> int:
    """The index of the block a module belongs to: the first number in its dotted name, or 0."""
    return next((int(part) for part in name.split(".") if part.isdigit()), 0)


def fresh_basis(module: nn.Module, spec: BasisSpec, seed: int) -> Basis:
    """A Basis that changes nothing yet: B = 0, A and P Kaiming-uniform, the head small and random, as the paper starts.

    Raises TargetsNotFound where `module` lacks a target.
    """
    generator = torch.Generator().manual_seed(seed)
    modules = dict(module.named_modules())
    tensors: dict[str, Tensor] = {"prior.mean": torch.zeros(spec.dimensions)}
    for name in spec.targets:
        shape = shape_of(modules[name]) if name in modules else None
        if shape is None:
            raise TargetsNotFound((name,), tuple(key for key, child in modules.items() if shape_of(child) is not None))
        d_in, d_out = shape
        tensors[f"A.{name}"] = _uniform((spec.rank, d_in), generator)
        tensors[f"B.{name}"] = torch.zeros(d_out, spec.rank)
        tensors[f"P.{name}"] = _uniform((spec.rank, spec.dimensions), generator)
        tensors[f"P.{name}"][:, : spec.bias] = 0
    head = fresh_head(module, len(spec.labels), spec.link)
    if head is not None:
        for key, value in head[1].state_dict().items():
            tensors[f"head.{key}"] = _drawn(key, value, generator)
        linear = last_linear(head[1])
        if spec.personal_head and linear is not None:
            tensors["M"] = torch.zeros(spec.dimensions, spec.outputs, linear.in_features)
            tensors["C"] = torch.zeros(spec.outputs, spec.dimensions)
            tensors["C"][:, : spec.bias] = contrasts(spec.outputs)[:, : spec.bias]
    return Basis(spec, tensors)


def contrasts(outputs: int) -> Tensor:
    """(outputs, outputs - 1 or 1) orthonormal columns, each summing to zero: all that a softmax can be moved by."""
    if outputs == 1:
        return torch.ones(1, 1)
    found = torch.zeros(outputs, outputs - 1)
    for k in range(outputs - 1):  # Helmert's
        found[: k + 1, k] = 1 / (k + 1)
        found[k + 1, k] = -1
    unit: Tensor = found / found.norm(dim=0)
    return unit


def fresh_head(module: nn.Module, labels: int, link: Link = Link.CATEGORICAL) -> tuple[str, nn.Module] | None:
    """The name of the model's task head and a new head like it for `labels` labels; None for a causal LM.

    Its output is (..., labels): logits, or log-probabilities from one number where labels are ordered.
    """
    for name in HEADS:
        head = getattr(module, name, None)
        if isinstance(head, nn.Module):
            if link is Link.ORDINAL:
                return name, nn.Sequential(_like(head, 1), Thresholds(labels))
            return name, _like(head, labels)
    return None


def _like(head: nn.Module, outputs: int) -> nn.Module:
    new = copy.deepcopy(head)
    if isinstance(new, nn.Linear):
        return _unset_linear(new, outputs)
    last = [key for key, child in new.named_modules() if isinstance(child, nn.Linear)][-1]
    parent = new.get_submodule(last.rpartition(".")[0])
    old = new.get_submodule(last)
    if isinstance(old, nn.Linear):
        setattr(parent, last.rpartition(".")[2], _unset_linear(old, outputs))
    return new


def _drawn(key: str, value: Tensor, generator: torch.Generator) -> Tensor:
    if value.dim() > 1:
        return torch.randn(value.shape, generator=generator) * 0.02
    return value.clone() if key.rpartition(".")[2] in ("first", "steps") else torch.zeros(value.shape)


def _unset_linear(like: nn.Linear, labels: int) -> nn.Linear:
    """Without values yet: drawing them would move torch's global random state."""
    return nn.Linear(like.in_features, labels, bias=like.bias is not None, device="meta").to_empty(device="cpu")


def _uniform(shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    bound = 1 / math.sqrt(shape[1])  # kaiming_uniform(a = sqrt(5))
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound
