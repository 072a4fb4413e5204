"""Models, Bases and users that exports are tried on, and the same directories as the real PEFT computes them."""

import copy
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import safe_open
from torch import Tensor, nn

import plora
from plora import Adapter, BaseModel, Basis, BasisSpec, Kind, LowRankAdapter, find_targets, fresh_basis
from plora.passes import forward
from plora.users import User
from tests.plora import toys

IDS = torch.arange(28).reshape(4, 7) * 5 % 17 + 2
MASK = torch.ones_like(IDS)
MASK[1, 5:] = 0


def base_of(module: nn.Module, kind: Kind = Kind.CLASSIFICATION, *, shifted: bool = True) -> BaseModel:
    """A base model. A new LayerNorm has no shift, so its constant is 0; trained ones have one, as a `shifted` one."""
    draw = torch.Generator().manual_seed(5)
    for child in module.modules():
        if shifted and isinstance(child, nn.LayerNorm):
            with torch.no_grad():
                child.weight.copy_(1 + 0.2 * torch.randn(child.weight.shape, generator=draw))
                child.bias.copy_(0.5 * torch.randn(child.bias.shape, generator=draw) + 0.2)
    return plora.wrap(module, toys.tokenizer(framed=kind is Kind.CLASSIFICATION), kind=kind, max_tokens=24)


def personal_basis(base: BaseModel) -> Basis:
    """One whose vectors reach the targets, the head's bias and the head's weights."""
    spec = BasisSpec(
        base.fingerprint, base.kind, toys.LABELS, find_targets(base.module), 4, 8.0, 8, bias=1, mixing=True
    )
    return toys.loud(fresh_basis(base.module, spec, 0))


def basis_of(base: BaseModel) -> Basis:
    return toys.loud(
        toys.basis_on(base.module, base.fingerprint, labels=toys.LABELS * (base.kind is not Kind.CAUSAL_LM))
    )


def adapter_of(basis: Basis, seed: int = 2) -> Adapter:
    return Adapter.of(basis, toys.vectors(1, basis.spec.dimensions, seed)[0])


def low_rank_of(basis: Basis, rank: int = 3, seed: int = 3) -> LowRankAdapter:
    draw = torch.Generator().manual_seed(seed)
    tensors = {"vector": torch.randn(basis.spec.dimensions, generator=draw)}
    for name in basis.spec.targets:
        d_in, d_out = basis.tensors[f"A.{name}"].shape[1], basis.tensors[f"B.{name}"].shape[0]
        tensors[f"A.{name}"] = torch.randn(rank, d_in, generator=draw) * 0.3
        tensors[f"B.{name}"] = torch.randn(d_out, rank, generator=draw) * 0.3
    return LowRankAdapter(basis.base, basis.fingerprint, rank, 6.0, tensors)


@torch.no_grad()
def ours(base: BaseModel, basis: Basis, users: list[User], ids: Tensor = IDS, mask: Tensor = MASK) -> Tensor:
    with plora.attached(base, basis) as live, live.use(users):
        return forward(base, ids, mask)


@torch.no_grad()
def logits(module: nn.Module, ids: Tensor = IDS, mask: Tensor = MASK, **given: object) -> Tensor:
    return module(input_ids=ids, attention_mask=mask, **given).logits


def peft_of(base: BaseModel, path: Path) -> PeftModel:
    """The directory on a fresh copy of the base, with every one of its tensors in use and none missing."""
    model = PeftModel.from_pretrained(copy.deepcopy(base.module), path).eval()
    with safe_open(path / "adapter_model.safetensors", "pt") as file:
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    loaded = get_peft_model_state_dict(model)
    assert loaded.keys() == held.keys()
    assert all(torch.equal(loaded[name].cpu(), value.float()) for name, value in held.items())
    return model


def peft_lora(base: BaseModel, path: Path, seed: int = 0, **options: object) -> Path:
    """A LoRA with random weights as PEFT itself writes it."""
    options.setdefault("target_modules", list(find_targets(base.module)))
    model = get_peft_model(copy.deepcopy(base.module), LoraConfig(**options))
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in sorted(model.named_parameters()):
            if value.requires_grad and ("lora_" in name or "modules_to_save" in name):
                value.copy_(torch.randn(value.shape, generator=draw) * 0.3)
    model.save_pretrained(path)
    return path


def near(found: Tensor, wanted: Tensor, most: float = 1e-5) -> None:
    """In float32: within `most`, for logits beyond 1 relative to the largest."""
    assert found.shape == wanted.shape
    off = float((found - wanted).abs().max()) / max(1.0, float(wanted.abs().max()))
    assert off <= most, off
