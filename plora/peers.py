"""Peers: the processes that train one Basis together, each with its share of every step."""

from typing import Protocol

import torch
from torch import Tensor
from torch import distributed as dist


class Peers(Protocol):
    """Who works beside us. Every peer must get the same bits from `sum`, so that all take the very same step."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def sum(self, values: Tensor) -> Tensor:
        """The elementwise sum of what every peer gives; all give the same shape, at the same moment."""
        ...


class Alone:
    """No peers."""

    rank, size = 0, 1

    def sum(self, values: Tensor) -> Tensor:
        return values


class GroupPeers:
    """The peers of torch.distributed's default process group, which the caller has opened."""

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self._device = torch.device("cuda" if dist.get_backend() == "nccl" else "cpu")

    def sum(self, values: Tensor) -> Tensor:
        moved = values.to(self._device, copy=True)
        dist.all_reduce(moved)
        return moved.to(values.device)
