"""A PEFT directory read strictly: safetensors only, and only tensors that PEFT itself would use."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from plora import gate
from plora.basis import HEADS
from plora.errors import AdapterRejected
from plora.gate import FileKind
from plora.layer import last_linear, shape_of
from plora.tensorfile import TensorFile, read_tensors

from .errors import NotRepresentable
from .notes import Note, read_note
from .peft_config import CONFIG, MAX_CONFIG_BYTES, PREFIX, WEIGHTS, PeftFacts, read_config

PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".npz", ".npy", ".joblib"})
LETTERS = {"lora_A.weight": "A", "lora_B.weight": "B", "lora_B.bias": "bias"}
UNREAD = {
    "lora_magnitude_vector": "use_dora",
    "lora_embedding_A": "embedding",
    "lora_embedding_B": "embedding",
    "base_layer": "modules_to_save",
}
"""What a tensor's name may hold besides, and the option it belongs to."""


@dataclass(frozen=True, slots=True)
class Part:
    """One module's LoRA as PEFT keeps it: h + scale (B (A x) + bias)."""

    A: Tensor = field(repr=False)
    B: Tensor = field(repr=False)
    bias: Tensor | None = field(repr=False)
    scale: float

    @property
    def rank(self) -> int:
        return int(self.A.shape[0])


@dataclass(frozen=True, slots=True)
class PeftFolder:
    """What a directory holds. `head` is the state of the saved task head by parameter name, {} where none is saved."""

    note: Note | None
    parts: Mapping[str, Part]
    head: Mapping[str, Tensor] = field(repr=False)

    @property
    def biased(self) -> bool:
        return any(part.bias is not None and bool(part.bias.any()) for part in self.parts.values())


def read_folder(folder: str | Path, module: nn.Module) -> PeftFolder:
    """The directory's LoRA for this model, whole and finite. Raises AdapterRejected or NotRepresentable.

    Nothing is unpickled, no name in a file becomes a path, and no tensor is made before all of them are checked.
    """
    path = Path(folder)
    _need_no_pickle(path)
    facts = read_config(_bytes(path / CONFIG, MAX_CONFIG_BYTES))
    data = _bytes(path / WEIGHTS, gate.MAX_BYTES[FileKind.TENSORS])
    if not data[:8].endswith(b"\0\0\0\0"):  # else the length of a header
        gate.refuse_foreign(data)
    file = read_tensors(data)
    names = {name: _split(name) for name in file.places}
    targets = {target for target, letter in names.values() if letter != "head"}
    heads = {name: inner for name, (inner, letter) in names.items() if letter == "head"}
    shapes = _lora_shapes(module, facts, targets) | _head_shapes(module, facts, file, heads)
    scales = {target: facts.scale_of(target) for target in targets}
    most = max([1.0, *map(abs, scales.values())])
    gate.check(FileKind.TENSORS, data, gate.Expected(shapes=shapes, most_norm=1e4 / most))
    tensors = {name: torch.from_numpy(file.tensor(name)) for name in file.places}
    found: dict[str, dict[str, Tensor]] = {target: {} for target in sorted(targets)}
    for name, (target, letter) in names.items():
        if letter != "head":
            found[target][letter] = tensors[name]
    parts = {name: Part(each["A"], each["B"], each.get("bias"), scales[name]) for name, each in found.items()}
    return PeftFolder(read_note(file.notes), parts, {inner: tensors[name] for name, inner in heads.items()})


def _need_no_pickle(path: Path) -> None:
    try:
        names = [entry.name for entry in os.scandir(path)]
    except OSError as error:
        raise AdapterRejected("unreadable", "folder", type(error).__name__) from None
    if any(Path(name).suffix.lower() in PICKLES for name in names):
        raise AdapterRejected("pickle", "folder", "it holds a file that may run code")


def _bytes(path: Path, most: int) -> bytes:
    """A regular file's content. What a symbolic link leads to is read too: model caches are made of links."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not hold us
    except OSError as error:
        raise AdapterRejected("unreadable", path.name, type(error).__name__) from None
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise AdapterRejected("unreadable", path.name, "not a regular file")
        if facts.st_size > most:
            raise AdapterRejected("too_large", path.name, f"{facts.st_size} bytes, {most} at most")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(most + 1)
    finally:
        os.close(descriptor)
    if len(data) > most:
        raise AdapterRejected("too_large", path.name, f"more than {most} bytes")
    return data


def _split(name: str) -> tuple[str, str]:
    """(module, A, B or bias), or (parameter of the head, "head"). Raises for any other tensor."""
    for mark, option in UNREAD.items():
        if f".{mark}" in name:
            raise NotRepresentable(option, "its tensors are not a LoRA of a linear layer")
    inner = name.removeprefix(PREFIX)
    if inner != name:
        for ending, letter in LETTERS.items():
            if inner.endswith(f".{ending}"):
                return inner.removesuffix(f".{ending}"), letter
        root, _, parameter = inner.partition(".")
        if root in HEADS and parameter:
            return parameter, "head"
    raise AdapterRejected("extra_keys", "tensors", "one that PEFT would not use")


def _lora_shapes(module: nn.Module, facts: PeftFacts, targets: set[str]) -> dict[str, tuple[int, ...]]:
    if not targets:
        raise AdapterRejected("no_targets", "tensors", "no LoRA among them")
    modules = dict(module.named_modules())
    shapes: dict[str, tuple[int, ...]] = {}
    for target in targets:
        shape = shape_of(modules[target]) if target in modules else None
        if target.split(".", 1)[0] in HEADS:
            raise NotRepresentable("target_modules", "a task head comes whole, not as a LoRA of it")
        if shape is None:
            raise AdapterRejected("wrong_base", "tensors", "a module that this base model has not")
        if not facts.adapts(target):
            raise AdapterRejected("extra_keys", "tensors", "a module that the configuration does not name")
        rank, (d_in, d_out) = facts.rank_of(target), shape
        shapes[f"{PREFIX}{target}.lora_A.weight"] = (rank, d_in)
        shapes[f"{PREFIX}{target}.lora_B.weight"] = (d_out, rank)
        if facts.biased:
            shapes[f"{PREFIX}{target}.lora_B.bias"] = (d_out,)
    return shapes


def _head_shapes(
    module: nn.Module, facts: PeftFacts, file: TensorFile, heads: Mapping[str, str]
) -> dict[str, tuple[int, ...]]:
    """The head's own shapes, but for as many labels as the file's last layer has."""
    roots = [name for name in HEADS if isinstance(getattr(module, name, None), nn.Module)]
    if not set(facts.saved) <= set(HEADS):
        raise NotRepresentable("modules_to_save", "only a task head can come with an adapter")
    if not heads:
        if set(facts.saved) & set(roots):
            raise AdapterRejected("missing_keys", "tensors", "the saved head is not among them")
        return {}
    if not roots or roots[0] not in facts.saved:
        raise AdapterRejected("extra_keys", "tensors", "a head that the model or the configuration has not")
    head = getattr(module, roots[0])
    last = last_linear(head)
    owned = [] if last is None else list(last.parameters())  # in the state they are other objects over the same memory
    shapes = {}
    for key, value in head.state_dict().items():
        name = f"{PREFIX}{roots[0]}.{key}"
        shapes[name] = tuple(value.shape)
        if name in file.places and any(value.data_ptr() == own.data_ptr() for own in owned):
            shapes[name] = (*file.places[name].shape[:1], *value.shape[1:])
    return shapes
