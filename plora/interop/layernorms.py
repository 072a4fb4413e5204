"""Constants that LayerNorms leave in their outputs, by which a bias can be written as one more rank.

A LayerNorm gives y = g xhat + b where the coordinates of xhat sum to zero, whatever the input. So with a = 1 / g the
number a . y = sum(b / g) = c is the same at every token, and a rank whose row is a / c reads 1 everywhere. In floating
point a . y is as far from c as rounding makes it: its relative error is the machine's times `condition`,
sqrt(n + |b / g|^2) / |c|. RMSNorm subtracts no mean and leaves no such constant.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from plora.layer import device_of

MOST_ERROR = 1e-5
"""The relative error of the user's share that still passes as exact: in float32 a condition of 84."""


@dataclass(frozen=True, slots=True)
class Constant:
    """What feeds a target: its LayerNorm's full name, c, the condition, and the row that reads 1 at every token.

    `shift` is b, on which such a row reads what it reads at every token.

    `error` is how far from 1 rounding takes it, in the precision of the LayerNorm.
    """

    norm: str
    value: float
    condition: float
    error: float
    row: Tensor = field(repr=False)
    shift: Tensor = field(repr=False)


def constants_of(module: nn.Module, targets: Sequence[str]) -> dict[str, Constant]:
    """By target; one whose input is no LayerNorm's output, or not at every call, is left out.

    One forward of a short made-up input shows which output is which target's input; the model is in eval mode.
    """
    norms = {name: child for name, child in module.named_modules() if isinstance(child, nn.LayerNorm)}
    feeds = _feeds(module, norms, targets)
    made = {name: _constant(name, norms[name]) for name in set(feeds.values())}
    return {target: constant for target, name in feeds.items() if (constant := made[name]) is not None}


def _constant(name: str, norm: nn.LayerNorm) -> Constant | None:
    if len(norm.normalized_shape) != 1 or not norm.elementwise_affine:
        return None
    g = norm.weight.detach().double().cpu()
    bias: Tensor | None = norm.bias
    b = torch.zeros_like(g) if bias is None else bias.detach().double().cpu()
    c = (b / g).sum()
    condition = float((len(g) + (b / g).square().sum()).sqrt() / c.abs())
    condition = condition if math.isfinite(condition) else math.inf
    error = condition * torch.finfo(norm.weight.dtype).eps
    return Constant(name, float(c), condition, error, (1 / (g * c)).float(), b.float())


def _feeds(module: nn.Module, norms: Mapping[str, nn.Module], targets: Sequence[str]) -> dict[str, str]:
    """The LayerNorm whose output each target is given, known by the memory it lies in."""
    outputs: dict[int, tuple[str, Tensor]] = {}  # the tensors are kept, so that no other takes their place
    inputs: dict[str, set[str | None]] = {target: set() for target in targets}

    def leave(name: str, _module: nn.Module, _given: object, y: Tensor) -> None:
        outputs[y.data_ptr()] = (name, y)

    def enter(name: str, _module: nn.Module, given: tuple[Tensor, ...]) -> None:
        x = given[0]
        source, y = outputs.get(x.data_ptr(), (None, x))
        inputs[name].add(source if (y.shape, y.stride()) == (x.shape, x.stride()) else None)

    handles = [norm.register_forward_hook(partial(leave, name)) for name, norm in norms.items()]
    handles += [module.get_submodule(name).register_forward_pre_hook(partial(enter, name)) for name in targets]
    try:
        with torch.no_grad():
            module(**_made_up(module))
    finally:
        for handle in handles:
            handle.remove()
    return {name: source for name, each in inputs.items() if len(each) == 1 and (source := next(iter(each)))}


def _made_up(module: nn.Module) -> dict[str, Tensor]:
    ids = torch.arange(6, device=device_of(module))[None]
    encoder_decoder = getattr(getattr(module, "config", None), "is_encoder_decoder", False)
    return {"input_ids": ids, "decoder_input_ids": ids} if encoder_decoder else {"input_ids": ids}
