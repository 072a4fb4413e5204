"""export_peft: one user as a directory that PEFT or another engine loads, exactly or not at all.

A directory is named by the digest of what is in it. A new version of a user is therefore another name, and a server
that caches by name cannot answer from the old one.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save as save_safetensors
from torch import Tensor

from plora.adapter import Adapter
from plora.basemodel import BaseModel
from plora.basis import Basis
from plora.layer import shape_of
from plora.lowrank import LowRankAdapter
from plora.tensorfile import NOTES

from .engines import Engine, can_serve
from .errors import NotExpressible
from .layernorms import MOST_ERROR, constants_of
from .merging import write_merged
from .notes import Note
from .peft_config import CONFIG, PREFIX, WEIGHTS, write_config
from .shares import Form, Head, Share, check_ready, head_of, need_no_constant, shares_of


@dataclass(frozen=True, slots=True)
class Exported:
    """A directory `path`, whose last part is `name`; `rank` is 0 where everything is merged.

    `head` tells whether a task head lies in it: the model it is loaded on must be made for `labels` labels.
    """

    name: str
    path: Path
    digest: str
    form: Form
    rank: int
    targets: tuple[str, ...]
    head: bool
    labels: int


def export_peft(
    base: BaseModel,
    basis: Basis,
    user: Adapter | LowRankAdapter | None,
    folder: str | Path,
    *,
    form: Form | str = Form.LORA_BIAS,
    engine: Engine | str = Engine.PEFT,
    head: Head | str = Head.OWN,
    base_name: str | None = None,
    most_error: float = MOST_ERROR,
) -> Exported:
    """Write one user, or None for the generic model, into a new directory under `folder`; the base stays as it is.

    Nothing else may run on the base meanwhile: `rank+1` watches a forward of it.
    The directory is readable by its owner alone: unlike what the daemon keeps it is not sealed. `base_name` is what
    others load the base by. Raises NotExpressible where the form would change an answer, WouldDropUser where the
    engine would, and what `check_ready` raises; nothing is left behind then.
    """
    form = Form(form)
    check_ready(base, basis, user)
    shares, state = shares_of(basis, user), head_of(base, basis, user, form)
    if Head(head) is Head.IN_BASE and form is not Form.MERGED:
        if "M" in basis.tensors and user is not None:
            raise NotExpressible("personal_head", form.value, "this user's head is not the one in the base")
        state = {}
    can_serve(engine, form, head=bool(state))
    if form is Form.MERGED:
        rank, write = 0, partial(write_merged, base, basis, shares, state)
    else:
        own = user.rank if isinstance(user, LowRankAdapter) else 0
        rank = basis.spec.rank + own + (form is Form.RANK_PLUS_ONE)
        tensors = _tensors(base, shares, form, most_error)
        weights = _file(tensors | state, Note.of(basis, form, own).written())
        write = partial(_write, _config(base, shares, state, form, rank=rank, name=base_name), weights)
    name, path, digest = _publish(Path(folder), write)
    return Exported(name, path, digest, form, rank, basis.spec.targets, bool(state), len(basis.labels))


def export_base(base: BaseModel, basis: Basis, folder: str | Path) -> Exported:
    """The base model with the Basis's head in the place of its own, on which exports with `Head.IN_BASE` are loaded.

    Only a classifier needs one. Raises what `export_peft` raises.
    """
    check_ready(base, basis, None)
    state = head_of(base, basis, None, Form.MERGED)
    name, path, digest = _publish(Path(folder), partial(write_merged, base, basis, {}, state))
    return Exported(name, path, digest, Form.MERGED, 0, (), bool(state), len(basis.labels))


def digest_of(path: Path) -> str:
    """SHA-256 over the names and digests of a directory's files, as hex."""
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()):
        with file.open("rb") as opened:
            inner = hashlib.file_digest(opened, "sha256").hexdigest()
        digest.update(f"{file.name}|{inner}\n".encode())
    return digest.hexdigest()


def _config(
    base: BaseModel, shares: Mapping[str, Share], head: Mapping[str, Tensor], form: Form, *, rank: int, name: str | None
) -> bytes:
    return write_config(
        tuple(shares),
        rank,
        biased=form is Form.LORA_BIAS,
        transposed=any(not isinstance(base.module.get_submodule(target), torch.nn.Linear) for target in shares),
        saved=sorted({key.split(".", 1)[0] for key in head}),
        base=name,
    )


def _write(config: bytes, weights: bytes, at: Path) -> None:
    (at / CONFIG).write_bytes(config)
    (at / WEIGHTS).write_bytes(weights)


def _tensors(base: BaseModel, shares: dict[str, Share], form: Form, most: float) -> dict[str, Tensor]:
    _need_own_names(base, shares)
    if form is Form.LORA:
        need_no_constant(shares, form)
    if form is Form.RANK_PLUS_ONE:
        shares = _with_rank(base, shares, most)
    found = {}
    for name, share in shares.items():
        found[f"{name}.lora_A.weight"], found[f"{name}.lora_B.weight"] = share.A, share.B
        if form is Form.LORA_BIAS:
            found[f"{name}.lora_B.bias"] = share.bias
    return found


def _with_rank(base: BaseModel, shares: dict[str, Share], most: float) -> dict[str, Share]:
    """Each share with its bias as one more rank, which reads the constant of the LayerNorm before it."""
    constants = constants_of(base.module, tuple(shares))
    found = {}
    for name, share in shares.items():
        constant = constants.get(name)
        if constant is None:
            raise NotExpressible("no_layer_norm", Form.RANK_PLUS_ONE.value, f"no LayerNorm's output enters {name}")
        if not constant.error <= most:
            said = (
                f"the LayerNorm before {name} leaves a relative error of {constant.error:.2g}, not {most:.2g} at most"
            )
            raise NotExpressible("small_constant", Form.RANK_PLUS_ONE.value, said)
        A, B = torch.cat([share.A, constant.row[None]]), torch.cat([share.B, share.bias[:, None]], 1)
        found[name] = Share(A, B, torch.zeros_like(share.bias))
    return found


def _need_own_names(base: BaseModel, shares: dict[str, Share]) -> None:
    """PEFT takes every module whose name ends in a target's: none but the targets may."""
    for name, child in base.module.named_modules():
        if name not in shares and shape_of(child) and any(name.endswith(f".{target}") for target in shares):
            raise NotExpressible("ambiguous_name", "lora", f"PEFT would adapt {name} as well")


def _file(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> bytes:
    """A safetensors file; the library would write several notes in an order of chance, and the name is a digest."""
    plain = save_safetensors({PREFIX + name: tensors[name].contiguous() for name in sorted(tensors)})
    start = 8 + int.from_bytes(plain[:8], "little")
    header = json.dumps({NOTES: dict(sorted(notes.items()))} | json.loads(plain[8:start]), separators=(",", ":"))
    header += " " * (-len(header) % 8)  # the numbers begin at a multiple of 8
    return len(header).to_bytes(8, "little") + header.encode() + plain[start:]


def _publish(folder: Path, write: Callable[[Path], object]) -> tuple[str, Path, str]:
    """Name, path and digest of a new directory: whole or absent. The same content gives the same directory."""
    folder.mkdir(parents=True, exist_ok=True)
    at = Path(tempfile.mkdtemp(prefix=".plora-", dir=folder))  # for its owner alone
    try:
        write(at)
        digest = digest_of(at)
        path = folder / f"plora-{digest[:32]}"
        try:
            at.rename(path)
        except OSError:
            if not path.is_dir() or digest_of(path) != digest:
                raise
        return path.name, path, digest
    finally:
        shutil.rmtree(at, ignore_errors=True)
