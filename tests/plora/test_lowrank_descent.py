"""What low-rank fits are told, and how their gradients are summed."""

import math

import pytest
import torch

import plora
from plora import LowRankSettings
from plora.lowrank_descent import by_turns


@pytest.mark.parametrize(
    "wrong", [{"rank": 0}, {"steps": 0}, {"patience": 0}, {"prior": -1.0}, {"rate": 0.0}, {"alpha": math.inf}]
)
def test_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(plora.InvalidSetting, match="must be"):
        LowRankSettings(**wrong)


def test_adding_by_turns_is_adding_one_row_after_another() -> None:
    draw = torch.Generator().manual_seed(0)
    users, parts = torch.randint(0, 5, (64,), generator=draw), torch.randn(64, 33, generator=draw) * 1e3
    turns, straight = torch.ones(6, 33), torch.ones(6, 33)
    by_turns(turns, users, parts)
    for user, part in zip(users.tolist(), parts, strict=True):
        straight[user] += part
    indexed = torch.ones(6, 33).index_add_(0, users, parts)
    assert torch.equal(turns, straight)
    assert torch.equal(indexed, straight)
