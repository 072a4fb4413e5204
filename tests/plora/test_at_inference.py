"""An attachment under what transformers and torch do with a model: generate, beams, compile, checkpoints, threads."""

import asyncio
import copy
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from transformers import T5Config, T5ForConditionalGeneration

import plora
from plora import Adapter, BasisSpec, Kind, LowRankAdapter, WrongRows
from plora.lowrank import Layout
from tests.plora import toys
from tests.plora.conftest import Toy

PROMPTS = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 5], [7, 7, 6, 9]])


def users(toy: Toy, loudness: float = 4.0) -> list[Adapter | None]:
    first, second = toys.vectors(2)
    return [Adapter.of(toy.basis, loudness * first), None, Adapter.of(toy.basis, loudness * second)]


def low_rank(toy: Toy, seed: int = 0) -> LowRankAdapter:
    layout = Layout.of(toy.basis, 2, 4.0)
    flat = torch.randn(layout.numbers, generator=torch.Generator().manual_seed(seed)) * 0.3
    return layout.adapter(toy.basis, flat, toys.vectors(1, seed=seed)[0])


def written(toy: Toy, whose, prompts, **options) -> torch.Tensor:
    copies = options.get("num_beams", 1) if not options.get("do_sample") else options.get("num_return_sequences", 1)
    torch.manual_seed(1)
    with plora.attached(toy.base, toy.basis) as live, live.use(whose, copies=copies):
        return toy.base.module.generate(
            input_ids=prompts,
            attention_mask=torch.ones_like(prompts),
            **{"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0} | options,
        )


@pytest.mark.parametrize(
    "options", [{}, {"num_beams": 3}, {"num_beams": 4, "num_return_sequences": 2}, {"use_cache": False}]
)
def test_generate_writes_for_each_row_as_alone(any_lm: Toy, options) -> None:
    whose = users(any_lm)
    together = written(any_lm, whose, PROMPTS, **options)
    share = len(together) // len(PROMPTS)
    for row, (user, prompt) in enumerate(zip(whose, PROMPTS, strict=True)):
        solo = written(any_lm, [user], prompt[None], **options)
        mine = together[row * share : (row + 1) * share, : solo.shape[1]]
        assert torch.equal(mine, solo), f"row {row} is answered as somebody else"


def test_sampling_several_answers_of_each_row_needs_to_be_said(any_lm: Toy) -> None:
    options = {"do_sample": True, "num_return_sequences": 3}
    assert written(any_lm, users(any_lm), PROMPTS, **options).shape[0] == 9
    with plora.attached(any_lm.base, any_lm.basis) as live, live.use(users(any_lm)), pytest.raises(WrongRows):
        any_lm.base.module.generate(input_ids=PROMPTS, attention_mask=torch.ones_like(PROMPTS), num_beams=2)
    with plora.attached(any_lm.base, any_lm.basis) as live, live.use(users(any_lm), copies=4), pytest.raises(WrongRows):
        any_lm.base.module(input_ids=PROMPTS.repeat(2, 1))


def test_an_encoder_decoder_writes_for_each_row_as_alone() -> None:
    config = T5Config(
        vocab_size=40, d_model=24, d_kv=6, d_ff=32, num_layers=2, num_heads=4, decoder_start_token_id=0, pad_token_id=0
    )
    torch.manual_seed(0)
    module = T5ForConditionalGeneration(config).eval()
    for value in module.parameters():
        value.data.mul_(3)
    targets = plora.find_targets(module, ("q", "v"))
    spec = BasisSpec(plora.fingerprint(module), Kind.CAUSAL_LM, (), targets, 4, 8.0, 8)
    basis = toys.loud(plora.fresh_basis(module, spec, 0))
    whose = [Adapter.of(basis, 4 * vector) for vector in toys.vectors(2)] + [None]
    with plora.attached(module, basis) as live:
        for beams in (1, 3):
            options = {"max_new_tokens": 6, "num_beams": beams, "do_sample": False}
            with live.use(whose, copies=beams):
                together = module.generate(input_ids=PROMPTS, attention_mask=torch.ones_like(PROMPTS), **options)
            for user, prompt, mine in zip(whose, PROMPTS, together, strict=True):
                with live.use([user], copies=beams):
                    solo = module.generate(input_ids=prompt[None], attention_mask=torch.ones(1, 4).long(), **options)
                assert torch.equal(mine[: solo.shape[1]], solo[0])
            assert len({tuple(row.tolist()) for row in together}) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_half_precision_mixes_users_too(any_toy: Toy, dtype) -> None:
    module = copy.deepcopy(any_toy.base.module).to(dtype)  # the fixture is everybody's
    base = plora.wrap(module, any_toy.base.tokenizer, kind=any_toy.base.kind)
    basis = plora.Basis(replace(any_toy.basis.spec, base=base.fingerprint), any_toy.basis.tensors)
    toy = replace(any_toy, base=base, basis=basis)
    whose = [*users(toy, 1.0), low_rank(toy)]
    ids = torch.cat([PROMPTS, PROMPTS[:1]])
    with plora.attached(base, basis) as live, torch.no_grad():
        with live.use(whose):
            mixed = module(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        for row, user in enumerate(whose):
            with live.use([user]):
                solo = module(input_ids=ids[row : row + 1], attention_mask=torch.ones(1, 4).long()).logits[0]
            tolerance = 1e-5 if dtype is torch.float32 else 0.06
            torch.testing.assert_close(mixed[row], solo, atol=tolerance, rtol=tolerance)


def test_folded_layers_answer_alike_and_leave_the_base_as_it_was(any_toy: Toy) -> None:
    whose, before = [*users(any_toy), low_rank(any_toy)], any_toy.logits()
    ids = torch.cat([PROMPTS, PROMPTS[:1]])
    found = []
    for folded in (False, True):
        with plora.attached(any_toy.base, any_toy.basis, folded=folded) as live, torch.no_grad():
            with live.use(whose):
                found.append(any_toy.base.module(input_ids=ids, attention_mask=torch.ones_like(ids)).logits)
            with live.disabled():
                found.append(any_toy.base.module(input_ids=ids, attention_mask=torch.ones_like(ids)).logits)
    torch.testing.assert_close(found[2], found[0], atol=1e-5, rtol=1e-5)
    assert torch.equal(found[3], found[1])
    assert torch.equal(any_toy.logits(), before)


def test_gradients_are_the_same_with_and_without_checkpoints(any_toy: Toy) -> None:
    module, vectors = any_toy.base.module, toys.vectors(3)
    found = []
    with plora.attached(any_toy.base, any_toy.basis) as live:
        for checkpointing in (False, True):
            if checkpointing:
                module.activation_checkpointing_enable(activation_checkpointing_kwargs=live.checkpointing)
            module.train()
            torch.manual_seed(5)  # dropout is on where checkpoints are, and drops the same
            leaf = vectors.clone().requires_grad_()
            module.get_input_embeddings().weight.requires_grad_(True)
            with live.use(leaf):
                logits = module(input_ids=PROMPTS, attention_mask=torch.ones_like(PROMPTS)).logits
            loss = logits.square().sum()  # outside the `with`: what is computed again must find the same rows
            found.append(torch.autograd.grad(loss, leaf)[0])
            module.get_input_embeddings().weight.requires_grad_(False)
        module.activation_checkpointing_disable()
        module.eval()
    torch.testing.assert_close(found[1], found[0], atol=1e-4, rtol=1e-4)
    assert found[0].abs().sum() > 0


def test_one_compiled_graph_serves_all_users(any_toy: Toy) -> None:
    torch._dynamo.reset()
    compiled_with = CompileCounter()
    with plora.attached(any_toy.base, any_toy.basis) as live, torch.no_grad():
        compiled = torch.compile(any_toy.base.module, backend=compiled_with, dynamic=False)
        for seed in range(4):
            whose = [Adapter.of(any_toy.basis, vector) for vector in toys.vectors(2, seed=seed)] + [None]
            if seed == 3:
                whose[0] = low_rank(any_toy, seed)
            with live.use(whose):
                options = {"input_ids": PROMPTS, "attention_mask": torch.ones_like(PROMPTS)}
                torch.testing.assert_close(compiled(**options).logits, any_toy.base.module(**options).logits)
            if seed == 0:
                graphs = compiled_with.frame_count
    assert compiled_with.frame_count == graphs, "another user was compiled for"
    torch._dynamo.reset()


@pytest.mark.parametrize("requests", [1_600, pytest.param(10_000, marks=pytest.mark.long)])
def test_interleaved_requests_each_get_their_own_user(bert: Toy, requests: int) -> None:
    adapters = [Adapter.of(bert.basis, vector) for vector in toys.vectors(50)]
    texts = torch.randint(5, 12, (8, 5), generator=torch.Generator().manual_seed(1))
    mask = torch.ones(1, 5).long()
    with plora.attached(bert.base, bert.basis) as live, torch.no_grad():

        def answer(user: int, text: int) -> torch.Tensor:
            with live.use([adapters[user]]), torch.no_grad():
                return bert.base.module(input_ids=texts[text : text + 1], attention_mask=mask).logits

        solo = {(user, text): answer(user, text) for user in range(50) for text in range(8)}

        async def task(user: int, text: int) -> bool:
            with live.use([adapters[user]]):
                await asyncio.sleep(0)  # others run while this one's user is in use
                logits = bert.base.module(input_ids=texts[text : text + 1], attention_mask=mask).logits
            return torch.equal(logits, solo[user, text])

        async def tasks(seed: int) -> list[bool]:
            order = random.Random(seed)
            return await asyncio.gather(*(task(order.randrange(50), order.randrange(8)) for _ in range(requests // 16)))

        def thread(seed: int) -> list[bool]:
            order = random.Random(seed)
            asked = [(order.randrange(50), order.randrange(8)) for _ in range(requests // 16)]
            with torch.no_grad():
                return [torch.equal(answer(*each), solo[each]) for each in asked] + asyncio.run(tasks(seed))

        with ThreadPoolExecutor(8) as pool:
            results = [each for found in pool.map(thread, range(8)) for each in found]
    assert len(results) == requests
    assert all(results)
