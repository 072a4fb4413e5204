"""What one user is at each target and at the head, in plain numbers: what every export writes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor, nn

from plora.adapter import Adapter
from plora.basemodel import BaseModel
from plora.basis import Basis, fresh_head
from plora.errors import AlreadyAttached, TargetsNotFound, WrongBaseModel, WrongShape
from plora.layer import PLoRALinear, last_linear, shape_of
from plora.lowrank import LowRankAdapter
from plora.spec import Link
from plora.users import check_users

from .errors import NotExpressible


class Form(Enum):
    """How an export says what a user adds. LORA has no place for a vector's share at the targets."""

    LORA = "lora"
    LORA_BIAS = "lora_bias"
    RANK_PLUS_ONE = "rank+1"
    MERGED = "merged"


class Head(Enum):
    """Where a classifier's head is: in each export, or once in the base that `export_base` writes."""

    OWN = "own"
    IN_BASE = "in_base"


@dataclass(frozen=True, slots=True)
class Share:
    """h + B (A x) + bias at one target: A (r, d_in), B (d_out, r) with every scale included, bias (d_out,)."""

    A: Tensor = field(repr=False)
    B: Tensor = field(repr=False)
    bias: Tensor = field(repr=False)

    @property
    def constant(self) -> bool:
        """Whether something is added whatever the input."""
        return bool(self.bias.any())


def shares_of(basis: Basis, user: Adapter | LowRankAdapter | None) -> dict[str, Share]:
    """By target: first the Basis's own ranks, then the user's. None is the generic model."""
    found = {}
    for name in basis.spec.targets:
        A, B, P = (basis.tensors[f"{letter}.{name}"].double() for letter in "ABP")
        vector = torch.zeros(basis.spec.dimensions) if user is None else user.vector
        bias = basis.spec.scale * (B @ (P @ vector.double()))
        B = basis.spec.scale * B
        if isinstance(user, LowRankAdapter):
            own = user.tensors.get(f"A.{name}", torch.zeros(user.rank, A.shape[1]))
            out = user.tensors.get(f"B.{name}", torch.zeros(B.shape[0], user.rank))
            A, B = torch.cat([A, own.double()]), torch.cat([B, user.scale * out.double()], 1)
        found[name] = Share(A.float(), B.float(), bias.float())
    return found


def head_of(base: BaseModel, basis: Basis, user: Adapter | LowRankAdapter | None, form: Form) -> dict[str, Tensor]:
    """The task head by its parameters' full names, the user's part in it; {} for a language model.

    For one user z = (W + sum_k p_k M_k) x + b + C p is a plain Linear, so nothing is lost. Raises NotExpressible.
    """
    made = fresh_head(base.module, len(basis.labels), basis.spec.link) if basis.head() else None
    if made is None:
        return {}
    if basis.spec.link is not Link.CATEGORICAL:
        raise NotExpressible("ordinal_head", form.value, "ordered labels come from one number and its thresholds")
    root, head = made
    state = {name: value.clone() for name, value in basis.head().items()}
    if "M" in basis.tensors and user is not None:
        _personalise(state, last_name(head), basis, user.vector, form)
    return {f"{root}.{name}": value for name, value in sorted(state.items())}


def last_name(head: nn.Module) -> str:
    """The prefix of the last Linear's parameters in a head's state: "" or "out_proj."."""
    last = last_linear(head)
    return next(f"{name}." if name else "" for name, child in head.named_modules() if child is last)


def check_ready(base: BaseModel, basis: Basis, user: Adapter | LowRankAdapter | None) -> None:
    """Raises WrongBaseModel, WrongBasis, WrongShape, TargetsNotFound, or AlreadyAttached for a model in use."""
    need_free(base)
    modules = dict(base.module.named_modules())
    if base.fingerprint != basis.base:
        raise WrongBaseModel(basis.base, base.fingerprint)
    check_users([user], basis)
    if isinstance(user, Adapter) and user.vector.numel() != basis.spec.dimensions:
        raise WrongShape("vector", (basis.spec.dimensions,), tuple(user.vector.shape))
    for name in basis.spec.targets:
        needed = (basis.tensors[f"A.{name}"].shape[1], basis.tensors[f"B.{name}"].shape[0])
        found = shape_of(modules[name]) if name in modules else None
        if found is None:
            raise TargetsNotFound((name,), tuple(key for key, child in modules.items() if shape_of(child) is not None))
        if found != needed:
            raise WrongShape(name, needed, found)


def need_free(base: BaseModel) -> None:
    """Raises AlreadyAttached for a model that carries a Basis: its modules are not the base's own."""
    if any(isinstance(child, PLoRALinear) for child in base.module.modules()):
        raise AlreadyAttached


def need_no_constant(shares: Mapping[str, Share], form: Form) -> None:
    """Raises NotExpressible where a form without biases would drop the vector's share."""
    if any(share.constant for share in shares.values()):
        raise NotExpressible("constant_share", form.value, "the user's vector adds a constant at the targets")


def _personalise(state: dict[str, Tensor], last: str, basis: Basis, vector: Tensor, form: Form) -> None:
    p = vector.double()
    change, moved = torch.einsum("k,koi->oi", p, basis.tensors["M"].double()), basis.tensors["C"].double() @ p
    weight, bias = f"{last}weight", f"{last}bias"
    if bias not in state and bool(moved.any()):
        raise NotExpressible("head_bias", form.value, "the model's head has no bias to carry the user's label bias")
    state[weight] = (state[weight].double() + change).float()
    if bias in state:
        state[bias] = (state[bias].double() + moved).float()
