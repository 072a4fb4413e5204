"""Several Bases on one live model: a batch may mix rows of all of them, and each row goes through its own alone."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from .attachment import Attachment, unattached
from .basemodel import BaseModel
from .basis import Basis
from .errors import AlreadyAttached, PLoRAError, WrongBaseModel, WrongBasis
from .layer import device_of
from .rows import NOBODY, Batch, Rows
from .users import User

RowUser = User | Basis
"""Whose a row is; a Basis stands for its generic model, None for that of the first one."""


class Attachments:
    """Bases on a model, by fingerprint. Until `use` says otherwise, every row is the first Basis's generic model."""

    def __init__(self, module: nn.Module, bases: Sequence[Basis]) -> None:
        self.module = module
        self._on: dict[str, Attachment] = {}
        self._head: tuple[str, nn.Module] | None = None
        try:
            for basis in bases:
                self.add(basis)
        except PLoRAError:
            self.detach()
            raise

    @property
    def bases(self) -> tuple[Basis, ...]:
        """Those that are on, the first one first."""
        return tuple(each.basis for each in self._on.values())

    def add(self, basis: Basis) -> None:
        """Put one more on. Nothing changes for rows of the others. Raises what `attach` raises."""
        if basis.fingerprint in self._on:
            raise AlreadyAttached
        if self._on and basis.base != self.bases[0].base:
            raise WrongBaseModel(basis.base, self.bases[0].base)
        with self._without_head():
            rows = Rows(NOBODY) if self._on else Rows()
            self._on[basis.fingerprint] = Attachment(self.module, basis, rows, puts_head=False)

    def remove(self, fingerprint: str) -> None:
        """Take one off; the others stay as they are. Raises WrongBasis where it is not on."""
        if fingerprint not in self._on:
            raise WrongBasis(fingerprint, next(iter(self._on), ""))
        left = [each.basis for each in self._on.values() if each.basis.fingerprint != fingerprint]
        self.detach()
        for basis in left:
            self.add(basis)

    def use(self, users: Sequence[RowUser], *, copies: int = 1) -> AbstractContextManager[None]:
        """One user for each row of the batches inside the `with`, of any of the Bases; `copies` as in Attachment.use.

        Raises WrongBaseModel, WrongBasis or WrongShape before any forward.
        """
        places: dict[str, list[int]] = defaultdict(list)
        first = next(iter(self._on))
        for at, user in enumerate(users):
            places[first if user is None else user.fingerprint if isinstance(user, Basis) else user.basis].append(at)
        stack, batches = ExitStack(), dict[str, Batch]()
        for fingerprint, mine in places.items():
            if fingerprint not in self._on:
                raise WrongBasis(fingerprint, first)
            batches[fingerprint] = self._batch(self._on[fingerprint], users, mine, copies)
        return _all(stack, [(each.rows, batches.get(name, NOBODY)) for name, each in self._on.items()])

    def labels(self, users: Sequence[RowUser]) -> list[tuple[str, ...]]:
        """What the columns of each row's answer stand for; columns behind them are minus infinity."""
        bases = {each.fingerprint: each for each in self.bases}
        own = (user.fingerprint if isinstance(user, Basis) else user.basis if user else None for user in users)
        return [(bases[name] if name else self.bases[0]).labels for name in own]

    @property
    def checkpointing(self) -> dict[str, object]:
        """As Attachment.checkpointing."""
        return {"use_reentrant": False, "context_fn": self._same_rows}

    def detach(self) -> None:
        """Put the very same modules back. Doing it twice does nothing."""
        self._take_head_off()
        for each in reversed(self._on.values()):
            each.detach()
        self._on.clear()

    def _batch(self, on: Attachment, users: Sequence[RowUser], mine: Sequence[int], copies: int) -> Batch:
        adapters = [None if isinstance(users[at], Basis) else users[at] for at in mine]
        vectors, changes = on.vectors(adapters), on.changes(adapters)  # type: ignore[arg-type]  # no Basis among them
        if len(mine) == len(users):
            return Batch(vectors, changes, copies=copies)
        index = torch.tensor(mine, device=device_of(self.module))
        return Batch(vectors, changes, index, len(users), copies)

    def _same_rows(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _all(ExitStack(), [(each.rows, each.rows.batch) for each in self._on.values()])

    @contextmanager
    def _without_head(self) -> Iterator[None]:
        """New heads are made like the model's own, so that is what must be on."""
        self._take_head_off()
        try:
            yield
        finally:
            heads = [each.own_head for each in self._on.values() if each.own_head is not None]
            if heads:
                name = heads[0][0]
                self._head = name, self.module.get_submodule(name)
                setattr(self.module, name, SeveralHeads(list(self._on.values())))

    def _take_head_off(self) -> None:
        if self._head is not None:
            setattr(self.module, *self._head)
            self._head = None


class SeveralHeads(nn.Module):
    """The task heads of several Bases: each row's own, and minus infinity behind the labels it has."""

    def __init__(self, attachments: Sequence[Attachment]) -> None:
        super().__init__()
        self._attachments = attachments
        self.heads = nn.ModuleList(each.own_head[1] for each in attachments if each.own_head is not None)

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # torch's own
    def forward(self, hidden: Tensor) -> Tensor:
        """hidden: (batch, ..., width) -> (batch, ..., most labels). Raises WrongRows."""
        found = list[tuple[Tensor | None, Tensor]]()
        for each, head in zip(self._attachments, self.heads, strict=True):
            batch = each.rows.batch
            if not batch.enabled:
                continue
            batch = batch.over(hidden.shape[0])
            with each.rows.carrying(Batch(batch.vectors)):
                found.append((batch.index, head(hidden if batch.index is None else hidden[batch.index])))
        widest = max(logits.shape[-1] for _, logits in found)
        if len(found) == 1 and found[0][0] is None:
            return found[0][1]
        like = found[0][1]
        out = like.new_full((hidden.shape[0], *like.shape[1:-1], widest), float("-inf"))
        for index, logits in found:
            padded = torch.nn.functional.pad(logits, (0, widest - logits.shape[-1]), value=float("-inf"))
            out = out.index_copy(0, index, padded) if index is not None else padded
        return out


def attach_several(model: nn.Module | BaseModel, bases: Sequence[Basis]) -> Attachments:
    """Several Bases of one base model on it. Raises what `attach` raises."""
    return Attachments(unattached(model, bases), bases)


@contextmanager
def _all(stack: ExitStack, carried: Sequence[tuple[Rows, Batch]]) -> Iterator[None]:
    with stack:
        for rows, batch in carried:
            stack.enter_context(rows.carrying(batch))
        yield
