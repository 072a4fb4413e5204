"""A batch of many users, imported or exported, against PEFT's own mixed batches, its `adapter_names`."""

import copy
from pathlib import Path

import pytest
import torch
from peft import PeftModel

import plora
from plora import Kind, find_targets
from plora.interop import bare_basis, export_peft, import_peft
from plora.passes import forward
from tests.plora import toys
from tests.plora.interop import stages

USERS = [
    {"r": 1, "lora_alpha": 3},
    {"r": 4, "lora_alpha": 8},
    {"r": 8, "lora_alpha": 4, "use_rslora": True},
    {"r": 8, "lora_alpha": 16, "target_modules": None},
    {"r": 4, "lora_alpha": 8, "alpha_pattern": {"layer.0": 2}, "target_modules": None},
]


@pytest.mark.parametrize("name", ["bert", "gpt2", "llama"])
def test_a_mixed_batch_is_pefts_at_every_size(name: str, tmp_path: Path) -> None:
    make, kind = {
        "bert": (toys.bert, Kind.CLASSIFICATION),
        "gpt2": (toys.gpt2, Kind.CAUSAL_LM),
        "llama": (toys.llama, Kind.CAUSAL_LM),
    }[name]
    base = stages.base_of(make(), kind)
    targets = list(find_targets(base.module))
    basis = bare_basis(base, targets)
    users, model = [], None
    for at, options in enumerate(USERS):
        chosen = {**options, "target_modules": targets if "target_modules" not in options else targets[-1:]}
        path = stages.peft_lora(base, tmp_path / str(at), at, **chosen)
        users.append(import_peft(path, base, basis).user)
        if model is None:
            model = PeftModel.from_pretrained(copy.deepcopy(base.module), path, adapter_name=str(at)).eval()
        else:
            model.load_adapter(path, str(at))
    assert model is not None
    draw = torch.Generator().manual_seed(4)
    for rows in (1, 2, 3, 7, 16, 64):
        ids = torch.randint(2, 19, (rows, 6), generator=draw)
        chosen_rows = torch.randint(-1, len(users), (rows,), generator=draw).tolist()
        wanted = stages.logits(
            model,
            ids,
            torch.ones_like(ids),
            adapter_names=["__base__" if at < 0 else str(at) for at in chosen_rows],
        )
        batch = [None if at < 0 else users[at] for at in chosen_rows]
        stages.near(stages.ours(base, basis, batch, ids, torch.ones_like(ids)), wanted)


@pytest.mark.parametrize("form", ["lora_bias", "rank+1"])
def test_exported_users_with_heads_of_their_own_share_pefts_batches_as_they_share_ours(
    form: str, tmp_path: Path
) -> None:
    base = stages.base_of(toys.bert())
    basis = stages.personal_basis(base)
    users = [stages.adapter_of(basis, seed) for seed in range(3)]
    exports = [export_peft(base, basis, user, tmp_path, form=form) for user in users]
    model = PeftModel.from_pretrained(copy.deepcopy(base.module), exports[0].path, adapter_name=exports[0].name).eval()
    for each in exports[1:]:
        model.load_adapter(each.path, each.name)
    rows = [2, 0, 1, 0]
    found = stages.logits(model, adapter_names=[exports[row].name for row in rows])
    stages.near(found, stages.ours(base, basis, [users[row] for row in rows]))


def test_imports_with_bases_of_their_own_share_a_batch_with_users_of_ours(tmp_path: Path) -> None:
    base = stages.base_of(toys.gpt2(), Kind.CAUSAL_LM)
    basis = stages.basis_of(base)
    paths = [stages.peft_lora(base, tmp_path / str(at), at, r=2 + at, lora_bias=True) for at in range(2)]
    found = [import_peft(path, base) for path in paths]
    user = stages.adapter_of(basis)
    live = plora.attach_several(base, [basis, *(each.basis for each in found)])
    with live.use([found[0].user, user, found[1].user, None]), torch.no_grad():
        mixed = forward(base, stages.IDS, stages.MASK)
    live.detach()
    for row, path in ((0, paths[0]), (2, paths[1])):
        stages.near(mixed[row], stages.logits(stages.peft_of(base, path))[row])
    stages.near(mixed[[1, 3]], stages.ours(base, basis, [user, user, None, None])[[1, 3]])
