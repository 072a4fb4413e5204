"""Kept: what enters the first block that a user reaches, once for rows of the same tokens. Private: memory only."""

from collections.abc import Sequence

import torch
from torch import Tensor

PREFIX_BYTES = 1 << 29
"""What the kept outputs of the lower blocks may take; rows beyond it are run through them in every pass."""

Key = tuple[tuple[int, ...], tuple[int, ...], int]
"""A row's tokens, the shape of its micro-batch, since other shapes may round otherwise, and how many blocks it ran."""


class Kept:
    """Rows of hidden states by their tokens, up to a bound."""

    def __init__(self, limit_bytes: int) -> None:
        self._room = limit_bytes
        self._rows: dict[Key, Tensor] = {}

    def take(self, keys: Sequence[Key], rows: int) -> Tensor | None:
        """(rows, length, width), blanks at the end, where all `keys` are known; else None."""
        known = [hidden for key in keys if (hidden := self._rows.get(key)) is not None]
        if not keys or len(known) < len(keys):
            return None
        blanks = [torch.zeros_like(known[0])] * (rows - len(known))
        return torch.stack([*known, *blanks])

    def put(self, keys: Sequence[Key], hidden: Tensor) -> None:
        """Keep the rows that have keys, as far as there is room."""
        size = hidden[0].numel() * hidden.element_size()
        for key, row in zip(keys, hidden.detach(), strict=False):
            if key not in self._rows and self._room >= size:
                self._rows[key] = row.clone()
                self._room -= size

    def clear(self) -> None:
        """Zero and drop every row."""
        for hidden in self._rows.values():
            hidden.zero_()
        self._rows.clear()
