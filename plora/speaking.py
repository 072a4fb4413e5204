"""Speaker: a frozen model kept ready to answer as anybody on one Basis, many users in one pass."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .basemodel import BaseModel
from .basis import Basis, Kind
from .engine import Engine, Precision
from .errors import WrongKind
from .examples import encode_text, pad_id
from .layer import Changes
from .lowrank import stacked
from .passes import logits_of
from .prediction import ROWS_PER_BATCH, Answer, answer_of, continued
from .users import User, check_users, vectors_of

TOKENS_PER_PASS = 2_048
"""Padded tokens of one pass; texts are sorted by length, so that little of it is padding."""


class Speaker:
    """Answers texts by an engine of its own: nothing is attached, copied or folded for a request.

    Not for two threads at once. Raises what Engine raises.
    """

    def __init__(self, base: BaseModel, basis: Basis, precision: Precision = Precision.FP32) -> None:
        self.base, self.basis = base, basis
        self.engine = Engine(base, basis, precision)

    def check(self, user: User) -> None:
        """Raises WrongBaseModel, WrongBasis or WrongShape unless `user` can speak here."""
        check_users([user], self.basis)

    @torch.no_grad()
    def classify(self, rows: Sequence[tuple[str, User]]) -> list[Answer]:
        """One answer for each (text, user), in order. Raises WrongKind, and what `check` raises."""
        if self.basis.kind is not Kind.CLASSIFICATION:
            raise WrongKind(self.basis.kind.value)
        check_users([user for _, user in rows], self.basis)
        encoded = [encode_text(self.base, text) for text, _ in rows]
        found: list[Answer | None] = [None] * len(rows)
        for places in _passes([len(ids) for ids in encoded]):
            chances = self._chances([encoded[at] for at in places], [rows[at][1] for at in places])
            for at, row in zip(places, chances, strict=True):
                found[at] = answer_of(self.basis.labels, row)
        return [each for each in found if each is not None]

    @torch.no_grad()
    def go_on(self, texts: Sequence[str], users: Sequence[User], most_tokens: int) -> list[Answer]:
        """The likeliest continuation of each text, as its user. Raises WrongKind, and what `check` raises."""
        if self.basis.kind is Kind.CLASSIFICATION:
            raise WrongKind(self.basis.kind.value)
        check_users(users, self.basis)
        encoded, found = [encode_text(self.base, text) for text in texts], list[Answer]()
        for start in range(0, len(texts), ROWS_PER_BATCH):
            part = slice(start, start + ROWS_PER_BATCH)
            with self.engine.rows.use(*self._worn(users[part])):
                found += continued(self.base, self.engine.module, encoded[part], most_tokens)
        return found

    def _worn(self, users: Sequence[User]) -> tuple[Tensor, Changes | None]:
        device = self.base.device
        return vectors_of(users, self.basis).to(device), stacked(users, self.basis, device)

    def _chances(self, encoded: Sequence[tuple[int, ...]], users: Sequence[User]) -> Tensor:
        """(rows, labels) probabilities."""
        device = self.base.device
        width = max(len(ids) for ids in encoded)
        ids = torch.full((len(encoded), width), pad_id(self.base))
        mask = torch.zeros(len(encoded), width, dtype=torch.long)
        for row, tokens in enumerate(encoded):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = 1
        worn = self._worn(users)
        return logits_of(self.engine, ids.to(device), mask.to(device), *worn).softmax(-1).float().cpu()


def _passes(lengths: Sequence[int]) -> list[list[int]]:
    """Places of texts that go through the model together, of like length."""
    found: list[list[int]] = []
    for at in sorted(range(len(lengths)), key=lengths.__getitem__):
        if found and (len(found[-1]) + 1) * lengths[at] <= TOKENS_PER_PASS:
            found[-1].append(at)
        else:
            found.append([at])
    return found
