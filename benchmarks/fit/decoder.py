"""A decoder of random weights: what passes cost on its shape. Its quality means nothing, so none is reported.

About 100 M parameters on a CPU; shapes of 0.5 B and 8 B only where there is a GPU.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

import plora
from benchmarks.fit import peers
from benchmarks.fit.limit import Bare
from benchmarks.fit.modes import Cohort, Made, Mode
from benchmarks.fit.ours import Fitting
from benchmarks.fit.plan import Plan
from benchmarks.fit.rows import Row
from benchmarks.fit.source import Source
from benchmarks.fit.stats import median
from benchmarks.fit.stopwatch import Taken, Turn, take_turns
from benchmarks.fit.words import text
from plora import BaseModel, Basis, BasisSpec, Engine, Example, FitSettings, Kind, Optimizer, Precision

EXAMPLES, PROMPT_WORDS, ANSWER_WORDS = 4, 22, 8
PEERS = 1


@dataclass(frozen=True, slots=True)
class Shape:
    """A Llama-like decoder's size."""

    name: str
    width: int
    layers: int
    heads: int
    key_value_heads: int
    inner: int


SMALL = Shape("decoder-100M", 768, 12, 12, 12, 2048)
LARGE = (Shape("decoder-0.5B", 1280, 24, 20, 4, 3584), Shape("decoder-8B", 4096, 32, 32, 8, 14336))


def decoders(plan: Plan, source: Source) -> list[Row]:
    """Rows of every shape that this machine is fit for."""
    gpu = torch.cuda.is_available()
    return [row for shape in (LARGE if gpu else (SMALL,)) for row in _shape(plan, source.base.tokenizer, shape, gpu)]


def _shape(plan: Plan, tokenizer: PreTrainedTokenizerBase, shape: Shape, gpu: bool) -> list[Row]:
    module = build(shape, len(tokenizer), gpu)
    base = plora.wrap(module, tokenizer, kind=Kind.CAUSAL_LM, name=shape.name, max_tokens=64)
    basis = random_basis(base, plan.seed)
    cohort = _cohort(plan.decoder_users, plan.seed)
    modes = _modes(plan, base, basis)
    turns = [Turn(mode.key, partial(_fit, mode, cohort), repeat=False) for mode in modes]
    rows = [list(tokenizer(f"{e.text} {e.target}")["input_ids"]) for user in cohort for e in user]
    for precision in dict.fromkeys(mode.precision for mode in modes if mode.basis):
        bare = Bare(module, precision)
        bare.choose(rows[: 2 * EXAMPLES])
        turns.append(Turn(f"limit/{precision}", partial(_pass, bare, rows), repeat=False))
    taken = take_turns(turns, plan.decoder_rounds)
    return _rows(plan, shape, modes, taken, sum(map(len, rows)) / len(cohort))


def build(shape: Shape, vocabulary: int, gpu: bool) -> LlamaForCausalLM:
    """Random weights, drawn where they will stay."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        intermediate_size=shape.inner,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    with torch.device("cuda" if gpu else "cpu"):
        made: LlamaForCausalLM = LlamaForCausalLM(config)
    return made.to(torch.bfloat16) if gpu else made


def random_basis(base: BaseModel, seed: int) -> Basis:
    """Every tensor drawn, B too, so that vectors matter."""
    spec = BasisSpec(base.fingerprint, Kind.CAUSAL_LM, (), plora.find_targets(base.module))
    fresh = plora.fresh_basis(base.module, spec, seed)
    draw = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(value.shape, generator=draw) * 0.02 for name, value in sorted(fresh.tensors.items())}
    return Basis(spec, tensors)


def _modes(plan: Plan, base: BaseModel, basis: Basis) -> list[Mode]:
    adam = FitSettings(optimizer=Optimizer.ADAM, steps=peers.EPOCHS, tolerance=0.0, patience=peers.EPOCHS + 1)
    full, half = Engine(base, basis), Engine(base, basis, Precision.BF16)
    found = [
        Mode("adam", Fitting("adam", full, adam), "all"),
        Mode("newton", Fitting("newton", full, FitSettings()), "all"),
        Mode("newton-bf16", Fitting("newton-bf16", half, FitSettings(precision=Precision.BF16)), "all", "bf16"),
    ]
    if "peft" in plan.modes:
        found.append(Mode("peft", partial(_peft, base), share=PEERS, repeat=False))
    return [mode for mode in found if mode.name in plan.decoder_modes]


def _peft(base: BaseModel, cohort: Cohort) -> Made:
    """As in peers.Peers.peft, for a causal LM: the prompt is not learned."""
    from peft import LoraConfig, TaskType, get_peft_model  # noqa: PLC0415

    config = LoraConfig(
        r=peers.RANK, lora_alpha=peers.ALPHA, target_modules=["q_proj", "v_proj"], task_type=TaskType.CAUSAL_LM
    )
    module = base.module
    for examples in cohort:
        model = get_peft_model(module, config)
        model.train()
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
        batch = base.tokenizer([f"{e.text} {e.target}" for e in examples], padding=True, return_tensors="pt")
        ids, mask = batch["input_ids"].to(base.device), batch["attention_mask"].to(base.device)
        labels = ids.masked_fill(mask == 0, -100)
        labels[:, : PROMPT_WORDS + 1] = -100
        for _ in range(peers.EPOCHS):
            model(input_ids=ids, attention_mask=mask, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        module = model.unload()
    module.eval().requires_grad_(False)
    return Made(peers.EPOCHS)


def _rows(
    plan: Plan, shape: Shape, modes: Sequence[Mode], taken: dict[str, list[Taken[Made]]], tokens: float
) -> list[Row]:
    shares = {mode.key: mode.share or plan.decoder_users for mode in modes}
    seconds = {
        key: [one.seconds(plan.clock) / shares.get(key, plan.decoder_users) for one in each]
        for key, each in taken.items()
    }
    keyed = {mode.key: mode for mode in modes}
    plain = Row(
        part="decoder", mode="", users=0, examples_per_user=EXAMPLES, dataset=shape.name, tokens_per_user=tokens
    )
    found = []
    for key, each in taken.items():
        mode = keyed.get(key, Mode("limit", _no_fit, precision=key.rpartition("/")[2]))
        passes = sum(one.outcome.passes for one in each) / len(each)
        bare = seconds.get(f"limit/{mode.precision}")
        found.append(
            replace(
                plain,
                mode=mode.name,
                basis=mode.basis,
                precision=mode.precision,
                users=shares.get(key, plan.decoder_users),
                users_per_s=1 / median(seconds[key]),
                seconds_per_user=median(seconds[key]),
                rounds=len(each),
                passes=passes,
                ratio_to_peft=_median_ratio(seconds.get("peft/fp32"), seconds[key]),
                fraction_of_limit=_median_ratio([passes * one for one in bare], seconds[key]) if bare else None,
                peak_mb=max((one.peak_mb for one in each if one.peak_mb is not None), default=None),
            )
        )
    return found


def _median_ratio(above: Sequence[float] | None, below: Sequence[float]) -> float | None:
    return median([a / b for a, b in zip(above, below, strict=True)]) if above else None


def _cohort(users: int, seed: int) -> Cohort:
    draw = random.Random(seed)
    return [
        [Example(text(draw, PROMPT_WORDS), text(draw, ANSWER_WORDS)) for _ in range(EXAMPLES)] for _ in range(users)
    ]


def _fit(mode: Mode, cohort: Cohort, _: int) -> Made:
    return mode.fit(cohort[: mode.share])


def _pass(bare: Bare, rows: Sequence[Sequence[int]], _: int) -> Made:
    bare.run(bare.batches(rows))
    return Made(1.0)


def _no_fit(_: Cohort) -> Made:
    return Made(0.0)
