"""An export answers as its user whichever way it is loaded: PEFT, its hotswap, its merge, or Transformers alone."""

import copy

import pytest
import torch
from peft.utils.hotswap import hotswap_adapter

import plora
from plora import Adapter, BaseModel, Basis, Kind
from plora.interop import Exported, export_peft
from tests.plora import toys
from tests.plora.interop import stages


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return stages.base_of(toys.gpt2(), Kind.CAUSAL_LM)


@pytest.fixture(scope="module")
def basis(base: BaseModel) -> Basis:
    return stages.basis_of(base)


@pytest.fixture(scope="module")
def users(basis: Basis) -> list[Adapter]:
    return [stages.adapter_of(basis, seed) for seed in (1, 2)]


@pytest.fixture(scope="module", params=["lora_bias", "rank+1"])
def exports(
    request: pytest.FixtureRequest,
    base: BaseModel,
    basis: Basis,
    users: list[Adapter],
    tmp_path_factory: pytest.TempPathFactory,
) -> list[Exported]:
    folder = tmp_path_factory.mktemp("exports")
    return [export_peft(base, basis, user, folder, form=request.param) for user in users]


def test_transformers_loads_it_by_itself(
    base: BaseModel, basis: Basis, users: list[Adapter], exports: list[Exported]
) -> None:
    model = copy.deepcopy(base.module)
    model.load_adapter(str(exports[0].path))
    stages.near(stages.logits(model), stages.ours(base, basis, [users[0]] * 4))


def test_one_user_is_swapped_for_another_in_place(
    base: BaseModel, basis: Basis, users: list[Adapter], exports: list[Exported]
) -> None:
    model = stages.peft_of(base, exports[0].path)
    hotswap_adapter(model, str(exports[1].path), "default")
    stages.near(stages.logits(model), stages.ours(base, basis, [users[1]] * 4))


def test_peft_merges_it_exactly(base: BaseModel, basis: Basis, users: list[Adapter], exports: list[Exported]) -> None:
    model = stages.peft_of(base, exports[0].path).merge_and_unload(safe_merge=True)
    stages.near(stages.logits(model), stages.ours(base, basis, [users[0]] * 4))


def test_it_writes_the_same_text(base: BaseModel, basis: Basis, users: list[Adapter], exports: list[Exported]) -> None:
    prompts = {"input_ids": stages.IDS[:, :4], "attention_mask": torch.ones(4, 4).long()}
    asked = {**prompts, "max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    with plora.attached(base, basis) as live, live.use([users[0]] * 4):
        wanted = base.module.generate(**asked)
    assert torch.equal(stages.peft_of(base, exports[0].path).generate(**asked), wanted)
    assert not torch.equal(stages.peft_of(base, exports[1].path).generate(**asked), wanted)
