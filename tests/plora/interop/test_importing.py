"""Imports: what the real PEFT wrote computes here what it computes there, and our own exports come back."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

import plora
from plora import Adapter, BaseModel, Kind, LowRankAdapter, dumps
from plora.codec import loads_basis
from plora.interop import Form, NotRecovered, NotRepresentable, bare_basis, export_peft, import_peft
from plora.lowrank_codec import dumps_low_rank, loads_low_rank
from tests.plora import toys
from tests.plora.interop import stages

MODELS = {
    "bert": (toys.bert, Kind.CLASSIFICATION),
    "roberta": (toys.roberta, Kind.CLASSIFICATION),
    "gpt2": (toys.gpt2, Kind.CAUSAL_LM),
    "llama": (toys.llama, Kind.CAUSAL_LM),
}
OPTIONS = {
    "plain": {"r": 4, "lora_alpha": 8},
    "rank of one": {"r": 1, "lora_alpha": 3},
    "rsLoRA": {"r": 4, "lora_alpha": 8, "use_rslora": True},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "rank_pattern": {"layer.0.attention.self.query": 2, r"^bert\.encoder\.layer\.1\.attention\.self\.value": 6},
        "alpha_pattern": {"value": 16},
    },
    "some modules": {"r": 3, "target_modules": ["query"]},
    "every linear layer": {"r": 2, "target_modules": "all-linear", "task_type": "SEQ_CLS"},
    "a layer": {"r": 3, "target_modules": ["query", "value"], "layers_to_transform": [1]},
    "all but a layer": {
        "r": 3,
        "target_modules": ["query", "value"],
        "exclude_modules": ["layer.0.attention.self.query"],
    },
    "biases": {"r": 4, "lora_bias": True},
    "a head": {"r": 4, "modules_to_save": ["classifier"]},
    "a head by its task": {"r": 4, "task_type": "SEQ_CLS"},
}
TASKS = {Kind.CLASSIFICATION: "SEQ_CLS", Kind.CAUSAL_LM: "CAUSAL_LM"}


def made(name: str) -> BaseModel:
    make, kind = MODELS[name]
    return stages.base_of(make(), kind)


@pytest.mark.parametrize("option", OPTIONS)
def test_a_lora_of_peft_is_the_same_here(option: str, tmp_path: Path) -> None:
    base = made("bert")
    path = stages.peft_lora(base, tmp_path / "lora", **OPTIONS[option])
    found = import_peft(path, base, labels=toys.LABELS)
    stages.near(stages.ours(base, found.basis, [found.user] * 4), stages.logits(stages.peft_of(base, path)))
    assert found.basis.labels == toys.LABELS
    assert found.residual is None


@pytest.mark.parametrize("name", ["roberta", "gpt2", "llama"])
@pytest.mark.parametrize("option", ["plain", "rsLoRA", "biases", "every linear layer"])
def test_a_lora_of_other_models_is_the_same_here(name: str, option: str, tmp_path: Path) -> None:
    base = made(name)
    path = stages.peft_lora(base, tmp_path / "lora", **OPTIONS[option] | {"task_type": TASKS[base.kind]})
    found = import_peft(path, base)
    stages.near(stages.ours(base, found.basis, [found.user] * 4), stages.logits(stages.peft_of(base, path)))


def test_a_lora_of_a_task_head_is_refused(tmp_path: Path) -> None:
    base = made("roberta")
    path = stages.peft_lora(base, tmp_path / "lora", target_modules=["query", "classifier.dense"])
    with pytest.raises(NotRepresentable, match="target_modules"):
        import_peft(path, base)


def test_a_row_without_the_import_is_the_bare_base(tmp_path: Path) -> None:
    base = made("bert")
    found = import_peft(stages.peft_lora(base, tmp_path / "lora", lora_bias=True), base)
    stages.near(stages.ours(base, found.basis, [None] * 4), stages.logits(base.module))


def test_numbers_that_need_no_padding_stay_the_files_own(tmp_path: Path) -> None:
    base = made("bert")
    path = stages.peft_lora(base, tmp_path / "lora", r=4, lora_alpha=8)
    user = import_peft(path, base).user
    assert isinstance(user, LowRankAdapter)
    assert (user.rank, user.alpha) == (4, 8)
    theirs = dict(stages.peft_of(base, path).base_model.model.named_parameters())
    for target in user.targets:
        assert torch.equal(user.tensors[f"B.{target}"], theirs[f"{target}.lora_B.default.weight"])


def test_an_import_is_stored_and_read_like_any_other_adapter(tmp_path: Path) -> None:
    base = made("bert")
    found = import_peft(stages.peft_lora(base, tmp_path / "lora", lora_bias=True), base)
    basis, user = loads_basis(dumps(found.basis)), loads_low_rank(dumps_low_rank(found.user))
    assert basis.fingerprint == found.basis.fingerprint
    assert torch.equal(stages.ours(base, basis, [user] * 4), stages.ours(base, found.basis, [found.user] * 4))


def test_beside_a_trained_basis_its_own_change_is_taken_away(tmp_path: Path) -> None:
    base = made("gpt2")
    basis = stages.basis_of(base)
    path = stages.peft_lora(base, tmp_path / "lora", r=4, lora_alpha=8)
    found = import_peft(path, base, basis)
    assert found.basis is basis
    mixed = stages.ours(base, basis, [found.user, stages.adapter_of(basis), found.user, None])
    theirs = stages.logits(stages.peft_of(base, path))
    stages.near(mixed[[0, 2]], theirs[[0, 2]])
    stages.near(mixed[3], stages.ours(base, basis, [None] * 4)[3])


def test_what_a_trained_basis_cannot_say_is_refused_beside_it(tmp_path: Path) -> None:
    base = made("bert")
    basis = stages.basis_of(base)
    for option, refused in (
        ("biases", "lora_bias"),
        ("every linear layer", "target_modules"),
        ("a head", "modules_to_save"),
    ):
        path = stages.peft_lora(base, tmp_path / option, **OPTIONS[option])
        with pytest.raises(NotRepresentable) as error:
            import_peft(path, base, basis)
        assert error.value.option == refused


@pytest.mark.parametrize("form", [Form.LORA_BIAS, Form.RANK_PLUS_ONE])
@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2"])
def test_our_own_exports_give_the_vector_back(name: str, form: Form, tmp_path: Path) -> None:
    base = made(name)
    basis = stages.basis_of(base)
    user = stages.adapter_of(basis)
    found = import_peft(export_peft(base, basis, user, tmp_path, form=form).path, base, basis)
    assert isinstance(found.user, Adapter)
    assert torch.allclose(found.user.vector, user.vector, atol=1e-4)
    assert found.residual is not None
    assert found.residual < 1e-5


def test_the_vector_comes_back_from_a_head_alone(tmp_path: Path) -> None:
    base = made("bert")
    spec = plora.BasisSpec(
        base.fingerprint, base.kind, toys.LABELS, plora.find_targets(base.module), 4, 8.0, 8, bias=1, mixing=True
    )
    basis = toys.loud(plora.fresh_basis(base.module, spec, 0))
    quiet = {
        name: torch.zeros_like(value) if name[:2] in ("P.", "B.") else value for name, value in basis.tensors.items()
    }
    basis = plora.Basis(spec, quiet)
    user = stages.adapter_of(basis)
    found = import_peft(export_peft(base, basis, user, tmp_path, form=Form.LORA).path, base, basis)
    assert torch.allclose(found.user.vector, user.vector, atol=1e-5)


def test_directions_that_move_nothing_come_back_as_the_populations_mean(tmp_path: Path) -> None:
    base = made("gpt2")
    basis = stages.basis_of(base)
    numb = torch.tensor([1.0] * 6 + [0.0] * 2)
    basis = plora.Basis(
        basis.spec, {name: value * numb if name.startswith("P.") else value for name, value in basis.tensors.items()}
    )
    user = stages.adapter_of(basis)
    fitted = Adapter.of(basis, torch.where(numb > 0, user.vector, basis.prior_mean))
    found = import_peft(export_peft(base, basis, fitted, tmp_path).path, base, basis)
    assert torch.allclose(found.user.vector, fitted.vector, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    rank=st.integers(1, 8),
    alpha=st.floats(0.5, 64),
    numbers=st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=12),
    form=st.sampled_from([Form.LORA_BIAS, Form.RANK_PLUS_ONE]),
)
def test_whatever_the_vector_what_comes_back_is_as_good(
    rank: int, alpha: float, numbers: list[float], form: Form, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = made("gpt2")
    spec = plora.BasisSpec(base.fingerprint, base.kind, (), plora.find_targets(base.module), rank, alpha, len(numbers))
    basis = toys.loud(plora.fresh_basis(base.module, spec, 0))
    user = Adapter.of(basis, torch.tensor(numbers))
    found = import_peft(export_peft(base, basis, user, tmp_path_factory.mktemp("all"), form=form).path, base, basis)
    assert found.residual is not None
    assert found.residual < 1e-4
    largest = max(1.0, *map(abs, numbers))
    for target in basis.spec.targets:
        move = basis.tensors[f"P.{target}"] @ (found.user.vector - user.vector)
        assert float(move.abs().max()) < 1e-3 * largest


@pytest.mark.parametrize("form", [Form.LORA_BIAS, Form.RANK_PLUS_ONE])
def test_a_low_rank_export_comes_back_with_its_vector(form: Form, tmp_path: Path) -> None:
    base = made("bert")
    basis = stages.basis_of(base)
    user = stages.low_rank_of(basis)
    found = import_peft(export_peft(base, basis, user, tmp_path, form=form).path, base, basis)
    assert isinstance(found.user, LowRankAdapter)
    assert found.user.rank == user.rank
    assert torch.allclose(found.user.vector, user.vector, atol=1e-4)
    stages.near(stages.ours(base, basis, [found.user] * 4), stages.ours(base, basis, [user] * 4))


def test_an_adapter_of_our_family_that_others_trained_gives_a_vector_or_is_refused(tmp_path: Path) -> None:
    base = made("gpt2")
    basis = stages.basis_of(base)
    exported = export_peft(base, basis, stages.adapter_of(basis), tmp_path)
    model = stages.peft_of(base, exported.path)
    model.save_pretrained(tmp_path / "theirs")  # PEFT keeps no note of ours
    found = import_peft(tmp_path / "theirs", base, basis)
    assert isinstance(found.user, Adapter)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("lora_B.default.bias"):
                value.add_(torch.linspace(-1, 1, len(value)))
    model.save_pretrained(tmp_path / "moved")
    with pytest.raises(NotRecovered) as refused:
        import_peft(tmp_path / "moved", base, basis)
    assert refused.value.residual > 0.01
    alone = import_peft(tmp_path / "moved", base)
    stages.near(stages.ours(base, alone.basis, [alone.user] * 4), stages.logits(model))


def test_a_note_that_is_not_so_recovers_nothing(tmp_path: Path) -> None:
    base = made("bert")
    basis = stages.basis_of(base)
    path = export_peft(base, basis, stages.adapter_of(basis), tmp_path, form=Form.RANK_PLUS_ONE).path
    with safe_open(path / "adapter_model.safetensors", "pt") as file:
        note, tensors = json.loads(file.metadata()["plora"]), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    for lie, error in (
        ({"own": 1}, NotRecovered),
        ({"form": "lora_bias", "own": 0}, NotRecovered),
        ({"form": "folded"}, plora.AdapterRejected),
        ({"own": -1}, plora.AdapterRejected),
        ({"base": 1}, plora.AdapterRejected),
        ({"basis": "somebody"}, plora.AdapterRejected),
    ):
        save_file(tensors, path / "adapter_model.safetensors", {"plora": json.dumps(note | lie)})
        with pytest.raises(error):
            import_peft(path, base, basis)
    save_file(tensors, path / "adapter_model.safetensors", {"plora": json.dumps(note | {"form": "lora", "own": 1})})
    user = import_peft(path, base, basis).user  # told to be low-rank, it is, and computes the same
    stages.near(stages.ours(base, basis, [user] * 4), stages.logits(stages.peft_of(base, path)))
    reading = next(name for name in tensors if name.endswith("lora_A.weight"))
    tensors[reading][-1, 0] += 1.0
    save_file(tensors, path / "adapter_model.safetensors", {"plora": json.dumps(note)})
    with pytest.raises(NotRecovered):
        import_peft(path, base, basis)


def test_our_export_alone_is_a_plain_lora(tmp_path: Path) -> None:
    base = made("bert")
    basis = stages.personal_basis(base)
    user = stages.adapter_of(basis)
    found = import_peft(export_peft(base, basis, user, tmp_path).path, base)
    stages.near(stages.ours(base, found.basis, [found.user] * 4), stages.ours(base, basis, [user] * 4))


def test_an_export_of_another_base_or_basis_is_refused(tmp_path: Path) -> None:
    base, other = made("bert"), stages.base_of(toys.seeded(toys.bert, 1), shifted=False)
    basis = stages.basis_of(base)
    path = export_peft(base, basis, stages.adapter_of(basis), tmp_path).path
    with pytest.raises(plora.WrongBaseModel):
        import_peft(path, other)
    with pytest.raises(plora.WrongBaseModel):
        import_peft(path, other, basis)
    with pytest.raises(plora.WrongBasis):
        import_peft(path, base, toys.loud(basis, 7))
    with plora.attached(base, basis), pytest.raises(plora.AlreadyAttached):
        import_peft(path, base)


def test_bare_bases_check_what_they_are_given() -> None:
    base = made("bert")
    with pytest.raises(plora.TargetsNotFound):
        bare_basis(base, ["nowhere"])
    with pytest.raises(plora.WrongShape):
        bare_basis(base, ["bert.pooler.dense"], labels=["one", "two", "three"])
    basis = bare_basis(base, ["bert.pooler.dense"])
    assert basis.labels == ("LABEL_0", "LABEL_1")
    stages.near(stages.ours(base, basis, [None] * 4), stages.logits(base.module))
    headless = toys.bert()
    headless.answers = headless.classifier
    del headless.classifier
    with pytest.raises(plora.TargetsNotFound, match="answers"):
        bare_basis(stages.base_of(headless), ["bert.pooler.dense"])
