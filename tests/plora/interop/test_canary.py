"""The canary tells an engine that serves this user from one that serves nobody, somebody else, or something else."""

import pickle
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor

import plora
from plora import BaseModel, Kind
from plora.interop import (
    CanaryFailed,
    Engine,
    Form,
    NotExpressible,
    NotRecovered,
    NotRepresentable,
    Probe,
    UselessProbe,
    WouldDropUser,
    can_serve,
    canary,
    export_peft,
    noise_of,
    probe_of,
)
from tests.plora import toys
from tests.plora.interop import stages

TEXTS = ("the soup was good", "the room was bad and the staff was very good", "price")


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return stages.base_of(toys.gpt2(), Kind.CAUSAL_LM)


@pytest.fixture(scope="module")
def basis(base: BaseModel) -> plora.Basis:
    return stages.basis_of(base)


@pytest.fixture(scope="module")
def probe(base: BaseModel, basis: plora.Basis) -> Probe:
    others = [stages.adapter_of(basis, seed) for seed in (8, 9)]
    return probe_of(base, basis, stages.adapter_of(basis), others, TEXTS)


@torch.no_grad()
def served(model: torch.nn.Module, probe: Probe) -> Tensor:
    return torch.stack([model(input_ids=torch.tensor([ids])).logits[0, -1] for ids in probe.tokens])


def serving(base: BaseModel, basis: plora.Basis, seed: int, folder: Path) -> PeftModel:
    return stages.peft_of(base, export_peft(base, basis, stages.adapter_of(basis, seed), folder, form="rank+1").path)


def test_an_engine_that_serves_this_user_passes(
    base: BaseModel, basis: plora.Basis, probe: Probe, tmp_path: Path
) -> None:
    model = serving(base, basis, 2, tmp_path)
    with model.disable_adapter():
        noise = noise_of(served(model, probe), probe.bare)
    seen = canary(probe, served(model, probe), noise=noise)
    assert seen.off <= seen.allowed < 1e-4
    assert seen.applied > 1e-2
    assert seen.nearest_other > 1e-2


def test_an_engine_that_dropped_the_user_is_found(
    base: BaseModel, basis: plora.Basis, probe: Probe, tmp_path: Path
) -> None:
    generic = stages.peft_of(base, export_peft(base, basis, None, tmp_path, form="lora").path)
    with pytest.raises(CanaryFailed) as failed:
        canary(probe, served(generic, probe))
    assert failed.value.check == "applied"


def test_an_engine_without_any_adapter_is_found(base: BaseModel, probe: Probe) -> None:
    with pytest.raises(CanaryFailed) as failed:
        canary(probe, served(base.module, probe))
    assert failed.value.check in ("right_user", "agrees")


def test_an_engine_that_serves_another_user_is_found(
    base: BaseModel, basis: plora.Basis, probe: Probe, tmp_path: Path
) -> None:
    with pytest.raises(CanaryFailed) as failed:
        canary(probe, served(serving(base, basis, 8, tmp_path), probe))
    assert failed.value.check == "right_user"


def test_an_engine_that_is_somewhat_off_is_found(
    base: BaseModel, basis: plora.Basis, probe: Probe, tmp_path: Path
) -> None:
    answers = served(serving(base, basis, 2, tmp_path), probe)
    answers[0, 0] += 1e-3
    with pytest.raises(CanaryFailed) as failed:
        canary(probe, answers)
    assert failed.value.check == "agrees"
    canary(probe, answers, noise=1e-3)
    answers[0, 0] = torch.nan
    with pytest.raises(CanaryFailed, match="finite"):
        canary(probe, answers)


def test_a_probe_that_cannot_tell_is_refused(base: BaseModel, basis: plora.Basis, probe: Probe) -> None:
    user = stages.adapter_of(basis)
    same = probe_of(base, basis, user, [user], TEXTS)
    with pytest.raises(UselessProbe):
        canary(same, same.mine)
    with pytest.raises(UselessProbe):
        canary(probe, probe.mine, noise=100.0)
    with pytest.raises(plora.NothingToLearn):
        probe_of(base, basis, user, [], ())
    with pytest.raises(plora.WrongShape):
        canary(probe, probe.mine[:1])


def test_no_probe_shows_its_content() -> None:
    probe = Probe(((1, 2),), torch.ones(1, 2), torch.ones(1, 1, 2), torch.ones(1, 2))
    assert repr(probe) == "Probe()"


@pytest.mark.parametrize("engine", [Engine.VLLM, Engine.LORAX, Engine.SGLANG])
def test_engines_are_told_what_they_would_drop(engine: Engine) -> None:
    with pytest.raises(WouldDropUser) as refused:
        can_serve(engine, Form.LORA_BIAS)
    assert engine.value in str(refused.value)
    with pytest.raises(WouldDropUser):
        can_serve(engine, Form.RANK_PLUS_ONE, head=True)
    can_serve(engine, Form.RANK_PLUS_ONE)
    can_serve(engine, Form.LORA)
    can_serve(engine, Form.MERGED, head=True)


def test_peft_serves_every_form() -> None:
    for form in Form:
        can_serve("peft", form.value, head=True)
    with pytest.raises(ValueError, match="ollama"):
        can_serve("ollama", Form.LORA)


@pytest.mark.parametrize(
    "error",
    [
        NotExpressible("head_bias", "lora_bias", "the head has no bias"),
        NotRepresentable("use_dora", "it is another method"),
        NotRecovered(0.5, 1e-4),
        WouldDropUser("vllm", "lora_bias", "it reads no bias"),
        CanaryFailed("agrees", 0.5, 1e-4),
        UselessProbe(0.0, 1e-4),
    ],
)
def test_every_error_survives_pickling_and_speaks(error: plora.PLoRAError) -> None:
    back = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(back) is type(error)
    assert back.args == error.args
    assert str(back) == str(error)
    assert len(str(back).split()) > 8
