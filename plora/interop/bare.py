"""A Basis that shares nothing: what a plain LoRA, which knows no Basis, is imported beside."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from plora.basemodel import BaseModel
from plora.basis import HEADS, Basis, fresh_head
from plora.errors import TargetsNotFound, WrongShape
from plora.layer import shape_of
from plora.spec import BasisSpec, Kind


def bare_basis(
    base: BaseModel,
    targets: Sequence[str],
    *,
    labels: Sequence[str] = (),
    head: Mapping[str, Tensor] | None = None,
    biases: Mapping[str, Tensor] | None = None,
) -> Basis:
    """A Basis with which the generic model is the bare base and its own task head, or `head`.

    Everything imported for the same targets can go into its batches. With `biases` (d_out,) by target, the vector [1]
    adds them. Raises TargetsNotFound, or WrongShape where labels and head disagree.
    """
    modules = dict(base.module.named_modules())
    head = _own_head(base) if head is None else head
    named = _labels(base, labels, head)
    spec = BasisSpec(base.fingerprint, base.kind, named, tuple(sorted(targets)), rank=1, alpha=1.0, dimensions=1)
    tensors = {"prior.mean": torch.zeros(1)}
    for name in spec.targets:
        shape = shape_of(modules[name]) if name in modules else None
        if shape is None:
            raise TargetsNotFound((name,), tuple(key for key, child in modules.items() if shape_of(child) is not None))
        bias = (biases or {}).get(name, torch.zeros(shape[1]))
        tensors |= {f"A.{name}": torch.zeros(1, shape[0]), f"B.{name}": bias[:, None], f"P.{name}": torch.ones(1, 1)}
    for key, value in head.items():
        tensors[f"head.{key}"] = value.detach().cpu().float().clone()
    return Basis(spec, tensors)


def _own_head(base: BaseModel) -> dict[str, Tensor]:
    if base.kind is not Kind.CLASSIFICATION:
        return {}
    for name in HEADS:
        if isinstance(head := getattr(base.module, name, None), nn.Module):
            return dict(head.state_dict())
    raise TargetsNotFound(HEADS, tuple(name for name, _ in base.module.named_children()))


def _labels(base: BaseModel, labels: Sequence[str], head: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The names given, else the model's own where they are as many as the head has outputs, else numbers."""
    if base.kind is not Kind.CLASSIFICATION:
        return ()
    outputs = _outputs(base, head)
    own = getattr(base.module.config, "id2label", None) or {}
    named = tuple(labels) or tuple(str(own[at]) for at in sorted(own))
    if labels and len(labels) != outputs:
        raise WrongShape("labels", (outputs,), (len(labels),))
    return named if len(named) == outputs else tuple(f"LABEL_{at}" for at in range(outputs))


def _outputs(base: BaseModel, head: Mapping[str, Tensor]) -> int:
    """How many labels a head's state is for: the number with which a new head has the same shapes."""
    for outputs in sorted({int(value.shape[0]) for value in head.values() if value.dim()}):
        made = fresh_head(base.module, outputs)
        shapes = {} if made is None else {key: value.shape for key, value in made[1].state_dict().items()}
        if shapes == {key: value.shape for key, value in head.items()}:
            return outputs
    raise WrongShape("head", (), ())
