"""attach / detach: put a Basis on a live model, choose a user for each row, and take it all off bit-exactly."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace

from torch import Tensor, nn

from .basemodel import BaseModel, fingerprint
from .basis import Basis, fresh_head
from .errors import AlreadyAttached, PLoRAError, TargetsNotFound, WrongBaseModel, WrongBasis, WrongShape
from .layer import Changes, PLoRALinear, Rows, device_of, personalised, shape_of
from .lowrank import stacked
from .residents import Worn
from .rows import Batch
from .users import User, check_users, vectors_of


class Attachment:
    """A Basis on a model. Until `use` says otherwise, every row is the generic model (p = 0)."""

    def __init__(self, module: nn.Module, basis: Basis, rows: Rows | None = None, *, puts_head: bool = True) -> None:
        """With `puts_head` False the head is made, but whoever asked for it puts it on."""
        self.module, self.basis, self.rows = module, basis, rows or Rows()
        self._puts_head = puts_head
        self.layers: dict[str, PLoRALinear] = {}
        self.head: nn.Module | None = None
        self.own_head: tuple[str, nn.Module] | None = None
        self._originals: dict[str, nn.Module] = {}
        try:
            self._swap_targets()
            self._swap_head()
        except PLoRAError:
            self.detach()
            raise

    def use(self, users: Sequence[User] | Worn | Tensor | None, *, copies: int = 1) -> AbstractContextManager[None]:
        """One user for each row of the batches inside the `with`.

        Adapters (None is generic), rows of Residents, or a (batch, d) tensor. `copies`: so many times transformers
        repeats each row by itself, for beams (num_beams) or several answers (num_return_sequences). Raises
        WrongBaseModel, WrongBasis or WrongShape before any forward.
        """
        return self.rows.carrying(replace(self._batch(users), copies=copies))

    @property
    def checkpointing(self) -> dict[str, object]:
        """For `model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=...)`.

        What is computed again in the backward pass, after the `with` and in threads of its own, has the same rows.
        """
        return {"use_reentrant": False, "context_fn": self._same_rows}

    def _batch(self, users: Sequence[User] | Worn | Tensor | None) -> Batch:
        if isinstance(users, Worn):
            if users.basis != self.basis.fingerprint:
                raise WrongBasis(users.basis, self.basis.fingerprint)
            return Batch(users.vectors, users.changes)
        if users is None or isinstance(users, Tensor):
            return Batch(users)
        return Batch(self.vectors(users), self.changes(users))

    def _same_rows(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), self.rows.carrying(self.rows.batch)

    def vectors(self, users: Sequence[User]) -> Tensor:
        """(batch, d) user vectors, zeros where a row is generic. Raises WrongBaseModel or WrongBasis."""
        self.check(users)
        return vectors_of(users, self.basis).to(device_of(self.module))

    def check(self, users: Sequence[User]) -> None:
        """Raises WrongBaseModel, WrongBasis or WrongShape where one of them does not belong here."""
        check_users(users, self.basis)

    def changes(self, users: Sequence[User]) -> Changes | None:
        """The low-rank changes of the rows, None where no row has one; the users are checked before."""
        return stacked(users, self.basis, device_of(self.module))

    def disabled(self) -> AbstractContextManager[None]:
        """Only the frozen base model's own layers inside the `with`; the Basis's head stays."""
        return self.rows.disabled()

    def detach(self) -> None:
        """Put the very same modules back. Doing it twice does nothing."""
        for name, original in self._originals.items():
            _put(self.module, name, original)
        self._originals.clear()
        self.layers.clear()

    def _swap_targets(self) -> None:
        modules = dict(self.module.named_modules())
        present = tuple(name for name, child in modules.items() if _shape_of(child) is not None)
        missing = tuple(name for name in self.basis.spec.targets if name not in present)
        if missing:
            raise TargetsNotFound(missing, present)
        for name in self.basis.spec.targets:
            needed = (self.basis.tensors[f"A.{name}"].shape[1], self.basis.tensors[f"B.{name}"].shape[0])
            found = _shape_of(modules[name])
            if found != needed:
                raise WrongShape(name, needed, found or ())
        device = device_of(self.module)
        for name in self.basis.spec.targets:
            A, B, P = (self.basis.tensors[f"{letter}.{name}"].to(device, copy=True) for letter in "ABP")
            layer = PLoRALinear(modules[name], A, B, P, scale=self.basis.spec.scale, rows=self.rows)
            layer.name = name
            layer.train(modules[name].training)
            self.layers[name] = layer
            self._originals[name] = modules[name]
            _put(self.module, name, layer)

    def _swap_head(self) -> None:
        state = self.basis.head()
        made = fresh_head(self.module, len(self.basis.labels), self.basis.spec.link) if state else None
        if made is None:
            return
        name, head = made
        shapes = {key: tuple(value.shape) for key, value in head.state_dict().items()}
        for key in sorted(shapes.keys() | state.keys()):
            found = tuple(state[key].shape) if key in state else ()
            if shapes.get(key) != found:
                raise WrongShape(f"head.{key}", shapes.get(key, ()), found)
        head.load_state_dict(state)
        head.requires_grad_(False)
        original = self.module.get_submodule(name)
        head.to(next(original.parameters())).train(original.training)
        self.head = head
        self.own_head = name, self._personal(head)
        if self._puts_head:
            self._originals[name] = original
            _put(self.module, *self.own_head)

    def _personal(self, head: nn.Module) -> nn.Module:
        """The head as every row's own, over the same parameters; `head` itself where the Basis has nothing for it."""
        if "M" not in self.basis.tensors:
            return head
        C, M = (self.basis.tensors[name].to(device_of(head), copy=True) for name in "CM")
        return personalised(head, C, M, self.rows)


def unattached(model: nn.Module | BaseModel, bases: Sequence[Basis]) -> nn.Module:
    """The module of a model that these Bases may be put on. Raises WrongBaseModel or AlreadyAttached."""
    module = model.module if isinstance(model, BaseModel) else model
    if any(isinstance(child, PLoRALinear) for child in module.modules()):
        raise AlreadyAttached
    loaded = model.fingerprint if isinstance(model, BaseModel) else fingerprint(module)
    for basis in bases:
        if loaded != basis.base:
            raise WrongBaseModel(basis.base, loaded)
    return module


def attach(model: nn.Module | BaseModel, basis: Basis, *, folded: bool = False) -> Attachment:
    """Replace the Basis's targets and task head on a live model; no forward of it is edited.

    `folded` keeps another copy of each target's weight with the shared change in it, so that answering costs what the
    bare model costs; the base is not touched, and nothing can be trained so.

    Raises WrongBaseModel, TargetsNotFound, WrongShape or AlreadyAttached, and then leaves the model as it was.
    """
    live = Attachment(unattached(model, [basis]), basis)
    if folded:
        for layer in live.layers.values():
            layer.fold()
    return live


@contextmanager
def attached(model: nn.Module | BaseModel, basis: Basis, *, folded: bool = False) -> Iterator[Attachment]:
    """Attach for the length of a `with`."""
    live = attach(model, basis, folded=folded)
    try:
        yield live
    finally:
        live.detach()


def _shape_of(module: nn.Module) -> tuple[int, int] | None:
    """Of a target that other Bases are on already, too."""
    return _shape_of(module.base) if isinstance(module, PLoRALinear) else shape_of(module)


def _put(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)
