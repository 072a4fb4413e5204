"""Exports: loaded by the real PEFT they answer as we do, or they are refused with a reason."""

import copy
import json
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import plora
from plora import Adapter, BaseModel, Kind
from plora.interop import (
    Form,
    NotExpressible,
    NotRepresentable,
    WouldDropUser,
    canary,
    constants_of,
    export_base,
    export_peft,
    import_peft,
    probe_of,
)
from plora.interop.layernorms import MOST_ERROR
from plora.links import Link
from tests.plora import toys
from tests.plora.interop import stages

MODELS = {
    "bert": (toys.bert, Kind.CLASSIFICATION),
    "roberta": (toys.roberta, Kind.CLASSIFICATION),
    "gpt2": (toys.gpt2, Kind.CAUSAL_LM),
    "llama": (toys.llama, Kind.CAUSAL_LM),
    "llama_classifier": (toys.llama_classifier, Kind.CLASSIFICATION),
}
WITH_LAYER_NORMS = ("bert", "roberta", "gpt2")


def made(name: str) -> BaseModel:
    make, kind = MODELS[name]
    return stages.base_of(make(), kind)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("low_rank", [False, True])
def test_lora_bias_is_exact_in_peft(name: str, low_rank: bool, tmp_path: Path) -> None:
    base = made(name)
    basis = stages.basis_of(base)
    user = stages.low_rank_of(basis) if low_rank else stages.adapter_of(basis)
    exported = export_peft(base, basis, user, tmp_path, form="lora_bias")
    wanted = stages.ours(base, basis, [user] * 4)
    stages.near(stages.logits(stages.peft_of(base, exported.path)), wanted)
    assert (wanted - stages.ours(base, basis, [None] * 4)).abs().max() > 1e-2
    assert exported.rank == (7 if low_rank else 4)


@pytest.mark.parametrize("name", WITH_LAYER_NORMS)
@pytest.mark.parametrize("low_rank", [False, True])
def test_rank_plus_one_is_exact_in_peft_without_any_bias(name: str, low_rank: bool, tmp_path: Path) -> None:
    base = made(name)
    basis = stages.basis_of(base)
    user = stages.low_rank_of(basis) if low_rank else stages.adapter_of(basis)
    exported = export_peft(base, basis, user, tmp_path, form=Form.RANK_PLUS_ONE)
    stages.near(stages.logits(stages.peft_of(base, exported.path)), stages.ours(base, basis, [user] * 4))
    assert not json.loads((exported.path / "adapter_config.json").read_text())["lora_bias"]
    with safe_open(exported.path / "adapter_model.safetensors", "pt") as file:
        assert not [key for key in file.keys() if key.endswith("lora_B.bias")]  # noqa: SIM118


def test_the_real_minilm_has_a_good_constant_before_every_layer_that_a_layer_norm_feeds(minilm: BaseModel) -> None:
    linear = [name for name, child in minilm.module.named_modules() if isinstance(child, torch.nn.Linear)]
    constants = constants_of(minilm.module, linear)
    fed = {name for name in linear if name.endswith(("query", "key", "value", "intermediate.dense"))}
    assert constants.keys() == fed
    targets = [constants[name] for name in plora.find_targets(minilm.module)]
    assert max(constant.condition for constant in targets) < 10
    assert min(abs(constant.value) for constant in targets) > 2
    assert max(constant.error for constant in constants.values()) < MOST_ERROR


@pytest.mark.parametrize("form", [Form.LORA_BIAS, Form.RANK_PLUS_ONE, Form.MERGED])
def test_on_the_real_minilm_every_form_passes_the_canary(minilm: BaseModel, form: Form, tmp_path: Path) -> None:
    basis = stages.personal_basis(minilm)
    user, other = stages.adapter_of(basis), stages.adapter_of(basis, 3)
    exported = export_peft(minilm, basis, user, tmp_path, form=form)
    model = loaded(minilm, exported.path) if form is Form.MERGED else stages.peft_of(minilm, exported.path)
    probe = probe_of(minilm, basis, user, [other], ["a tiny kettle", "the huge red bag of an old friend"])
    answers = [stages.logits(model, torch.tensor([ids]), torch.ones(1, len(ids)).long())[0] for ids in probe.tokens]
    assert canary(probe, torch.stack(answers)).off < 1e-5


@pytest.mark.parametrize("name", ["llama", "llama_classifier"])
def test_rank_plus_one_is_refused_where_an_rms_norm_leaves_no_constant(name: str, tmp_path: Path) -> None:
    base = made(name)
    basis = stages.basis_of(base)
    with pytest.raises(NotExpressible, match="no LayerNorm") as refused:
        export_peft(base, basis, stages.adapter_of(basis), tmp_path, form=Form.RANK_PLUS_ONE)
    assert refused.value.code == "no_layer_norm"
    assert not list(tmp_path.iterdir())


def test_rank_plus_one_is_refused_where_the_constant_is_too_small(tmp_path: Path) -> None:
    base = stages.base_of(toys.bert(), shifted=False)
    basis = stages.basis_of(base)
    with pytest.raises(NotExpressible) as refused:
        export_peft(base, basis, stages.adapter_of(basis), tmp_path, form=Form.RANK_PLUS_ONE)
    assert refused.value.code == "small_constant"


def test_rank_plus_one_is_refused_in_half_precision_where_rounding_would_move_the_user(tmp_path: Path) -> None:
    base = stages.base_of(toys.bert().to(torch.bfloat16))
    basis = stages.basis_of(base)
    with pytest.raises(NotExpressible) as refused:
        export_peft(base, basis, stages.adapter_of(basis), tmp_path, form=Form.RANK_PLUS_ONE)
    assert refused.value.code == "small_constant"


def test_the_generic_model_needs_no_bias_and_a_user_is_refused_the_plain_form(tmp_path: Path) -> None:
    base = made("bert")
    basis = stages.basis_of(base)
    exported = export_peft(base, basis, None, tmp_path, form=Form.LORA)
    stages.near(stages.logits(stages.peft_of(base, exported.path)), stages.ours(base, basis, [None] * 4))
    with pytest.raises(NotExpressible) as refused:
        export_peft(base, basis, stages.adapter_of(basis), tmp_path, form=Form.LORA)
    assert refused.value.code == "constant_share"


@pytest.mark.parametrize("form", [Form.LORA_BIAS, Form.RANK_PLUS_ONE, Form.MERGED])
@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_a_personal_head_is_a_plain_head_for_one_user(name: str, form: Form, tmp_path: Path) -> None:
    base = made(name)
    basis = stages.personal_basis(base)
    user = stages.adapter_of(basis)
    exported = export_peft(base, basis, user, tmp_path, form=form)
    assert exported.head
    assert exported.labels == 2
    found = loaded(base, exported.path) if form is Form.MERGED else stages.peft_of(base, exported.path)
    stages.near(stages.logits(found), stages.ours(base, basis, [user] * 4))


def test_a_label_bias_on_a_head_without_bias_is_refused(tmp_path: Path) -> None:
    base = made("llama_classifier")
    basis = stages.personal_basis(base)
    with pytest.raises(NotExpressible) as refused:
        export_peft(base, basis, stages.adapter_of(basis), tmp_path)
    assert refused.value.code == "head_bias"


def test_ordered_labels_are_refused(tmp_path: Path) -> None:
    base = made("bert")
    spec = plora.BasisSpec(
        base.fingerprint, base.kind, ("1", "2", "3"), plora.find_targets(base.module), 4, 8.0, 8, link=Link.ORDINAL
    )
    basis = plora.fresh_basis(base.module, spec, 0)
    with pytest.raises(NotExpressible) as refused:
        export_peft(base, basis, stages.adapter_of(basis), tmp_path)
    assert refused.value.code == "ordinal_head"


def loaded(base: BaseModel, path: Path) -> torch.nn.Module:
    auto = AutoModelForCausalLM if base.kind is Kind.CAUSAL_LM else AutoModelForSequenceClassification
    found, report = auto.from_pretrained(path, output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return found.eval()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("low_rank", [False, True])
def test_a_merged_model_is_exact_in_transformers(name: str, low_rank: bool, tmp_path: Path) -> None:
    base = made(name)
    basis = stages.basis_of(base)
    user = stages.low_rank_of(basis) if low_rank else stages.adapter_of(basis)
    exported = export_peft(base, basis, user, tmp_path, form=Form.MERGED)
    stages.near(stages.logits(loaded(base, exported.path)), stages.ours(base, basis, [user] * 4))
    assert exported.rank == 0


def test_a_head_may_lie_once_in_a_base_for_everybody(tmp_path: Path) -> None:
    base = made("bert")
    basis = stages.basis_of(base)
    user = stages.adapter_of(basis)
    found = loaded(base, export_base(base, basis, tmp_path).path)
    assert found.config.id2label == dict(enumerate(toys.LABELS))
    shared = plora.wrap(found, base.tokenizer, kind=base.kind)
    assert shared.fingerprint == base.fingerprint  # the head is no part of a base model
    for form in (Form.LORA_BIAS, Form.RANK_PLUS_ONE):
        exported = export_peft(base, basis, user, tmp_path, form=form, head="in_base")
        assert not exported.head
        stages.near(stages.logits(stages.peft_of(shared, exported.path)), stages.ours(base, basis, [user] * 4))
        assert torch.allclose(import_peft(exported.path, base, basis).user.vector, user.vector, atol=1e-4)
        with pytest.raises(NotRepresentable, match="modules_to_save"):
            import_peft(exported.path, base)
    assert export_peft(base, basis, user, tmp_path, form="rank+1", engine="sglang", head="in_base").path.is_dir()
    personal = stages.personal_basis(base)
    with pytest.raises(NotExpressible) as refused:
        export_peft(base, personal, stages.adapter_of(personal), tmp_path, head="in_base")
    assert refused.value.code == "personal_head"


def test_the_generic_model_can_be_merged_for_everybody(tmp_path: Path) -> None:
    base = made("bert")
    basis = stages.personal_basis(base)
    found = loaded(base, export_peft(base, basis, None, tmp_path, form="merged").path)
    stages.near(stages.logits(found), stages.ours(base, basis, [None] * 4))


def test_a_merge_that_would_round_the_user_away_is_refused(tmp_path: Path) -> None:
    base = stages.base_of(toys.bert().to(torch.bfloat16))
    basis = stages.basis_of(base)
    with pytest.raises(NotExpressible) as refused:
        export_peft(base, basis, stages.adapter_of(basis), tmp_path, form=Form.MERGED)
    assert refused.value.code == "precision"
    assert not list(tmp_path.iterdir())


def test_a_merge_into_weights_that_two_layers_share_is_refused(tmp_path: Path) -> None:
    module = toys.bert()
    first, second = (module.bert.encoder.layer[at].attention.self for at in (0, 1))
    second.query.weight = first.query.weight
    base = stages.base_of(module)
    basis = stages.basis_of(base)
    with pytest.raises(NotExpressible) as refused:
        export_peft(base, basis, stages.adapter_of(basis), tmp_path, form=Form.MERGED)
    assert refused.value.code == "tied_weights"


def test_the_name_is_the_contents_own(tmp_path: Path) -> None:
    base = made("bert")
    basis = stages.basis_of(base)
    user, other = stages.adapter_of(basis, 2), stages.adapter_of(basis, 3)
    first, merged = (export_peft(base, basis, user, tmp_path, form=form) for form in (Form.LORA_BIAS, Form.MERGED))
    for _ in range(4):
        assert export_peft(base, basis, user, tmp_path) == first
        assert export_peft(base, basis, user, tmp_path, form=Form.MERGED) == merged
    names = {first.name, merged.name, export_peft(base, basis, other, tmp_path).name}
    names.add(export_peft(base, basis, user, tmp_path, form=Form.RANK_PLUS_ONE).name)
    assert first.name == f"plora-{first.digest[:32]}"
    assert {path.name for path in tmp_path.iterdir()} == names
    assert len(names) == 4
    assert stat.S_IMODE(first.path.stat().st_mode) == 0o700


def test_a_directory_that_was_tampered_with_is_not_taken_for_ours(tmp_path: Path) -> None:
    base = made("bert")
    basis = stages.basis_of(base)
    first = export_peft(base, basis, stages.adapter_of(basis), tmp_path)
    (first.path / "adapter_config.json").write_text("{}")
    with pytest.raises(OSError, match="not empty"):
        export_peft(base, basis, stages.adapter_of(basis), tmp_path)


def test_an_export_leaves_the_base_as_it_was_and_refuses_one_in_use(tmp_path: Path) -> None:
    base = made("bert")
    basis = stages.personal_basis(base)
    user = stages.adapter_of(basis)
    before = toys.state_hash(base.module.state_dict())
    for form in (Form.LORA_BIAS, Form.RANK_PLUS_ONE, Form.MERGED):
        export_peft(base, basis, user, tmp_path, form=form)
    assert toys.state_hash(base.module.state_dict()) == before
    with plora.attached(base, basis), pytest.raises(plora.AlreadyAttached):
        export_peft(base, basis, user, tmp_path)


def test_a_user_of_another_base_or_basis_is_refused(tmp_path: Path) -> None:
    base, other = made("bert"), made("roberta")
    basis = stages.basis_of(base)
    user = stages.adapter_of(basis)
    with pytest.raises(plora.WrongBaseModel):
        export_peft(other, basis, user, tmp_path)
    with pytest.raises(plora.WrongBasis):
        export_peft(base, basis, Adapter(basis.base, "0" * 64, user.vector), tmp_path)
    with pytest.raises(plora.WrongShape):
        export_peft(base, basis, Adapter(basis.base, basis.fingerprint, torch.ones(3)), tmp_path)


def test_two_modules_under_one_name_are_refused(tmp_path: Path) -> None:
    module = toys.bert()
    module.query = copy.deepcopy(module.bert.encoder.layer[0].attention.self.query)
    base = stages.base_of(module)
    spec = plora.BasisSpec(base.fingerprint, base.kind, toys.LABELS, ("query",), 4, 8.0, 8)
    basis = plora.fresh_basis(base.module, spec, 0)
    with pytest.raises(NotExpressible) as refused:
        export_peft(base, basis, stages.adapter_of(basis), tmp_path)
    assert refused.value.code == "ambiguous_name"


def test_what_the_engine_would_drop_is_not_even_written(tmp_path: Path) -> None:
    base = made("gpt2")
    basis = stages.basis_of(base)
    user = stages.adapter_of(basis)
    for engine in ("vllm", "lorax", "sglang"):
        with pytest.raises(WouldDropUser):
            export_peft(base, basis, user, tmp_path, engine=engine)
    assert not list(tmp_path.iterdir())
    assert export_peft(base, basis, user, tmp_path, form="rank+1", engine="vllm").path.is_dir()
