"""Bank: rows of numbers that stay where they are, so that a batch picks its users' rows in one product.

It grows by a further block as large as all before it, never by moving a row: nobody's batch waits for a copy, and who
reads a row while the bank grows reads the same row.
"""

from bisect import bisect_right
from collections.abc import Sequence

import torch
from torch import Tensor

NOBODY = 0
"""The place of a row that is zeros for ever: the generic model's."""


class Bank:
    """Rows of `numbers` float32 each, zeros where nobody has been put. Not thread-safe: its owner has the lock."""

    def __init__(self, numbers: int, first: int, device: torch.device) -> None:
        """`first` is how many rows it is made for."""
        self.numbers, self._device = numbers, device
        self._blocks = [torch.zeros(first + 1, numbers, device=device)]
        self._starts = [0]
        self._rows = first + 1
        self._free: list[int] = []
        self._next = NOBODY + 1

    @property
    def size_bytes(self) -> int:
        """What is reserved; a page of it that was never written costs a CPU's memory nothing."""
        return 4 * self._rows * self.numbers

    def take(self) -> int:
        """A place whose row is zeros."""
        if self._free:
            return self._free.pop()
        if self._next == self._rows:
            self._blocks.append(torch.zeros(self._rows, self.numbers, device=self._device))
            self._starts.append(self._rows)
            self._rows *= 2
        self._next += 1
        return self._next - 1

    def give(self, place: int) -> None:
        """Zero a row that nobody reads any more, and let another have its place."""
        self.row(place).zero_()
        self._free.append(place)

    def row(self, place: int) -> Tensor:
        """(1, numbers) the row itself."""
        at = bisect_right(self._starts, place) - 1
        offset = place - self._starts[at]
        return self._blocks[at][offset : offset + 1]

    def gather(self, places: Sequence[int]) -> Tensor:
        """(places, numbers) a copy of the rows."""
        index = torch.tensor(places, dtype=torch.long, device=self._device)
        blocks, starts = self._blocks, self._starts
        if len(blocks) == 1:
            return blocks[0].index_select(0, index)
        found = torch.empty(len(places), self.numbers, device=self._device)
        for at in sorted({bisect_right(starts, place) - 1 for place in places}):
            here = ((index >= starts[at]) & (index < starts[at] + len(blocks[at]))).nonzero()[:, 0]
            found.index_copy_(0, here, blocks[at].index_select(0, index[here] - starts[at]))
        return found
