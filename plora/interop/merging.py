"""A user merged into a copy of the base's weights, as a model directory of Transformers: where that is exact."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from plora.basemodel import BaseModel
from plora.basis import Basis

from .errors import NotExpressible
from .shares import Form, Share

FORM = Form.MERGED.value


def write_merged(
    base: BaseModel, basis: Basis, shares: Mapping[str, Share], head: Mapping[str, Tensor], path: Path
) -> None:
    """W + B A and b + bias at every target, and the head with its labels' names. Raises NotExpressible.

    Where the targets have no bias it is added to the attention layers if the model's configuration knows how to; the
    weights are float32, since a lower precision would round the change away.
    """
    module = base.module
    if not isinstance(module, PreTrainedModel):
        raise NotExpressible("not_transformers", FORM, "only a model of Transformers can be written as a directory")
    _need_whole_numbers(module, shares)
    config = copy.deepcopy(module.config)
    state = {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
    for name, share in shares.items():
        _merge(module.get_submodule(name), name, share, state)
    if any(f"{name}.bias" not in state for name, share in shares.items() if share.constant):
        _add_biases(module, config, shares, state)
    if head:
        config.id2label = dict(enumerate(basis.labels))
        config.label2id = {label: at for at, label in enumerate(basis.labels)}
        state |= head
    _write(type(module), config, state, path)
    base.tokenizer.save_pretrained(path)


def _need_whole_numbers(module: nn.Module, shares: Mapping[str, Share]) -> None:
    """Raises NotExpressible for weights of a lower precision, or that another layer uses too."""
    users: dict[int, int] = {}
    for child in module.modules():
        for parameter in child._parameters.values():
            if parameter is not None:
                users[id(parameter)] = users.get(id(parameter), 0) + 1
    for name in shares:
        weight = module.get_submodule(name).weight
        if weight.dtype is not torch.float32:
            raise NotExpressible(
                "precision", FORM, f"the weights are {weight.dtype}, which would round the change away"
            )
        if users[id(weight)] > 1:
            raise NotExpressible("tied_weights", FORM, f"the weights of {name} are those of another layer too")


def _merge(layer: nn.Module, name: str, share: Share, state: dict[str, Tensor]) -> None:
    change = share.B.double() @ share.A.double()  # (d_out, d_in)
    weight = state[f"{name}.weight"].double()
    state[f"{name}.weight"] = (weight + (change if isinstance(layer, nn.Linear) else change.T)).float()
    if f"{name}.bias" in state:
        state[f"{name}.bias"] = (state[f"{name}.bias"].double() + share.bias.double()).float()


def _add_biases(
    module: PreTrainedModel, config: PretrainedConfig, shares: Mapping[str, Share], state: dict[str, Tensor]
) -> None:
    """Biases of zero for every layer that `attention_bias` gives one, then the user's. Raises NotExpressible."""
    if getattr(config, "attention_bias", None) is not False:
        raise NotExpressible("no_bias", FORM, "the targets have no bias, and the model cannot be given one")
    config.attention_bias = True
    with torch.device("meta"):
        wanted = type(module)(config).state_dict()
    for name in sorted(wanted.keys() - state.keys()):
        if not name.endswith(".bias"):
            raise NotExpressible("no_bias", FORM, f"{name} would appear with the biases")
        share = shares.get(name.removesuffix(".bias"))
        state[name] = torch.zeros(wanted[name].shape) if share is None else share.bias.clone()
    if any(f"{name}.bias" not in state for name, share in shares.items() if share.constant):
        raise NotExpressible("no_bias", FORM, "the model's own biases do not reach every target")


def _write(model: type[PreTrainedModel], config: PretrainedConfig, state: dict[str, Tensor], path: Path) -> None:
    with torch.device("meta"):
        made = model(config)
    made.to_empty(device="cpu")
    made.load_state_dict(state, strict=True)
    made.tie_weights()
    made.save_pretrained(path)
