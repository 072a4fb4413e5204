"""What a compiled model asks of its layers: the users of a batch are looked up when it runs, not when it is compiled.

One opaque operator does what a layer adds to the frozen base's output. So one compiled graph serves whoever the rows
are, without a break in it, and is never compiled again for another user. It has no derivative: it is for inference.
"""

import itertools
from typing import Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor


class Layer(Protocol):
    """What the operator needs of a layer."""

    def changed(self, y: Tensor, x: Tensor) -> Tensor: ...


_layers: "WeakValueDictionary[int, Layer]" = WeakValueDictionary()
_numbers = itertools.count()


def numbered(layer: Layer) -> int:
    """A number by which the operator finds this layer as long as it lives."""
    number = next(_numbers)
    _layers[number] = layer
    return number


@torch.library.custom_op("plora::changed", mutates_args=())
def changed(y: Tensor, x: Tensor, number: int) -> Tensor:
    """y, what the base made of x, as the layer of this number changes it for the rows of the batch."""
    found = _layers[number].changed(y, x)
    return found.clone() if found is y else found


@changed.register_fake
def _(y: Tensor, x: Tensor, number: int) -> Tensor:  # noqa: ARG001
    return torch.empty_like(y)
