"""What is measured: a frozen model, a Basis that reaches all of it, users of both kinds, and PEFT with as many LoRAs.

The model is MiniLM, or a decoder of distilgpt2's shape with random weights: the cost of a pass does not depend on what
the weights say. Users enter wherever they can: at every block's targets, and at the task head too. PEFT gets a LoRA of
the same rank at the same modules for each user, and no head of their own.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel

import plora
from benchmarks.fit.source import open_source
from plora import Adapter, BaseModel, Basis, BasisSpec, Kind, LowRankAdapter
from plora.lowrank import Layout

if TYPE_CHECKING:
    from peft import PeftModel

RANK, ALPHA, DIMENSIONS, LOUD = 8, 16.0, 16, 0.1
LABELS = ("no", "yes")


@dataclass(frozen=True, slots=True)
class Subject:
    """A model with its Basis, and `tokens`: how long each row of a batch is."""

    name: str
    base: BaseModel = field(repr=False)
    basis: Basis = field(repr=False)
    tokens: int
    most: dict[str, int] = field(default_factory=dict)  # what else the model is called with

    def ids(self, rows: int, seed: int) -> Tensor:
        """(rows, tokens) of random words."""
        draw = torch.Generator().manual_seed(seed)
        words = len(self.base.tokenizer)
        return torch.randint(words // 30, words // 2, (rows, self.tokens), generator=draw)

    def vectors(self, users: int, seed: int) -> list[Adapter]:
        draw = torch.Generator().manual_seed(seed)
        d = self.basis.spec.dimensions
        return [Adapter.of(self.basis, torch.randn(d, generator=draw)) for _ in range(users)]

    def low_ranks(self, users: int, seed: int) -> list[LowRankAdapter]:
        draw, layout = torch.Generator().manual_seed(seed), Layout.of(self.basis, RANK, ALPHA)
        blank = torch.zeros(self.basis.spec.dimensions)
        flats = (torch.randn(layout.numbers, generator=draw) * LOUD for _ in range(users))
        return [layout.adapter(self.basis, flat, blank) for flat in flats]


def minilm() -> Subject:
    """The published MiniLM with a classifier of two labels, 32 tokens a row."""
    base = open_source().base
    return subject("minilm", base, 32)


def decoder(layers: int = 6) -> Subject:
    """distilgpt2's shape, 768 wide, 16 tokens a row, the next token's scores only."""
    config = GPT2Config(n_layer=layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = GPT2LMHeadModel(config)
    words = open_source().base.tokenizer
    base = plora.wrap(module, words, kind=Kind.CAUSAL_LM)
    return subject("gpt2-6-layers", base, 16, {"logits_to_keep": 1, "use_cache": 0})


def subject(name: str, base: BaseModel, tokens: int, most: dict[str, int] | None = None) -> Subject:
    """`base` with a Basis of random numbers at every block, and at the head where there is one."""
    labels = LABELS if base.kind is Kind.CLASSIFICATION else ()
    spec = BasisSpec(
        base.fingerprint,
        base.kind,
        labels,
        plora.find_targets(base.module),
        dimensions=DIMENSIONS + len(labels[1:]),
        bias=len(labels[1:]),
        mixing=bool(labels),
    )
    fresh, draw = plora.fresh_basis(base.module, spec, 0), torch.Generator().manual_seed(1)
    tensors = {key: torch.randn(value.shape, generator=draw) * LOUD for key, value in sorted(fresh.tensors.items())}
    return Subject(name, base, Basis(spec, tensors), tokens, most or {})


def peft_model(subject: Subject, users: Sequence[LowRankAdapter], folder: Path) -> "tuple[PeftModel, list[Path]]":
    """A PEFT model over a copy of the base without any of them, and a folder of PEFT's own for each user's LoRA."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415

    targets = sorted({name.rsplit(".", 1)[-1] for name in subject.basis.spec.targets})
    convolved = type(subject.base.module.get_submodule(subject.basis.spec.targets[0])).__name__ == "Conv1D"
    config = LoraConfig(r=RANK, lora_alpha=int(ALPHA), target_modules=targets, fan_in_fan_out=convolved)
    model = get_peft_model(copy.deepcopy(subject.base.module), config).eval()
    places = []
    for at, user in enumerate(users):
        fill(model, user)
        place = folder / str(at)
        model.save_pretrained(place)
        places.append(place)
    return model, places


@torch.no_grad()
def fill(model: nn.Module, user: LowRankAdapter) -> None:
    """Write a user's A and B into PEFT's default adapter."""
    layers = {name: child for name, child in model.named_modules() if hasattr(child, "lora_A")}
    for target in user.targets:
        (layer,) = [child for name, child in layers.items() if name.endswith(f".{target}")]
        layer.get_submodule("lora_A.default").get_parameter("weight").copy_(user.tensors[f"A.{target}"])
        layer.get_submodule("lora_B.default").get_parameter("weight").copy_(user.tensors[f"B.{target}"])


SUBJECTS: dict[str, Callable[[], Subject]] = {"minilm": minilm, "decoder": decoder}
