"""Fitting low-rank adapters of many users at once: what one user at a time gives, and no one touches anyone."""

import dataclasses
import hashlib
import math
import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import plora
from plora import (
    Adapter,
    BaseModel,
    Basis,
    Example,
    FitFailed,
    FitFailure,
    Kind,
    LowRankFitted,
    LowRankSettings,
    WrongBasis,
    WrongRows,
)
from plora.examples import encode
from plora.passes import forward
from tests.plora import toys
from tests.plora.conftest import Toy

SHORT = LowRankSettings(rank=2, alpha=4.0, steps=3, rate=0.01, prior=0.5)
RESTLESS = LowRankSettings(rank=2, alpha=4.0, steps=8, rate=0.05, prior=1.0, progress=0.05, patience=2)
"""Overshoots and gives up, each user at another step."""

LONG_TEXT = "the soup was very good and the room was very bad and the view"
ONE = [Example("the soup was good", "like")]


def members(count: int) -> list[list[Example]]:
    """Users with one to four examples of two lengths."""
    found = []
    for user in range(count):
        examples = toys.reviews(1 + user % 4, 100 + user, toys.TRIBES[user % 4])
        if user % 3 == 0:
            examples.append(Example(LONG_TEXT, toys.LABELS[user % 2]))
        found.append(examples)
    return found


def narrow(base: BaseModel, basis: Basis) -> plora.Engine:
    """An engine with micro-batches so small that they cut through users."""
    engine = plora.Engine(base, basis)
    while engine.shrink():
        pass
    return engine


def fitted(
    base: BaseModel, basis: Basis, cohort: Sequence[list[Example]], settings: LowRankSettings = SHORT
) -> list[bytes]:
    """The users' adapters as bytes: equal only where every bit is."""
    outcomes = plora.fit_low_rank(base, basis, cohort, settings, engine=narrow(base, basis))
    assert all(isinstance(outcome, LowRankFitted) for outcome in outcomes)
    return [plora.dumps(outcome.adapter) for outcome in outcomes if isinstance(outcome, LowRankFitted)]


class Straight:
    """One user, one example at a time, without padding: plain autograd, torch's own Adam, the stop rule by hand."""

    def __init__(self, toy: Toy, settings: LowRankSettings, start: Adapter | None) -> None:
        self.toy, self.settings, self.start = toy, settings, start
        self.leaves: dict[str, Tensor] = {}
        for name in toy.basis.spec.targets:
            d_in, d_out = toy.basis.tensors[f"A.{name}"].shape[1], toy.basis.tensors[f"B.{name}"].shape[0]
            seed = int.from_bytes(hashlib.sha256(f"{toy.basis.fingerprint}|A.{name}".encode()).digest()[:8], "little")
            draw = torch.Generator().manual_seed(seed >> 1)
            A = (torch.rand(settings.rank, d_in, generator=draw) * 2 - 1) / math.sqrt(d_in)
            self.leaves[f"A.{name}"], self.leaves[f"B.{name}"] = A, torch.zeros(d_out, settings.rank)
        self.origin = {name: value.clone() for name, value in self.leaves.items()}
        for value in self.leaves.values():
            value.requires_grad_()

    def hook(self, name: str) -> object:
        scale = self.settings.alpha / self.settings.rank

        def add(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor:
            return out + scale * (args[0] @ self.leaves[f"A.{name}"].T) @ self.leaves[f"B.{name}"].T

        return add

    def loss(self, example: Example) -> Tensor:
        row = encode(self.toy.base, self.toy.basis, example)
        ids = torch.tensor([row.ids])
        logits = forward(self.toy.base, ids, torch.ones_like(ids))[0]
        if not self.toy.lm:
            return F.cross_entropy(logits[None], torch.tensor([row.target]))
        return F.cross_entropy(logits[row.target - 1 : -1], ids[0, row.target :])

    def fit(self, examples: list[Example]) -> tuple[dict[str, Tensor], list[float], float]:
        """The best leaves, the mean loss before every step and at last, and that of the best leaves."""
        optimizer = torch.optim.Adam(self.leaves.values(), self.settings.rate, (0.9, 0.99), 1e-6)
        best, least, losses = dict(self.origin), math.inf, list[float]()
        kept, marked, waited = 0.0, math.inf, 0
        with plora.attached(self.toy.base, self.toy.basis) as live, live.use([self.start]):
            hooks = [layer.register_forward_hook(self.hook(name)) for name, layer in live.layers.items()]
            for _ in range(self.settings.steps + 1):
                loss = sum((self.loss(example) for example in examples), torch.zeros(()))
                away = sum(((v - self.origin[n]).square().sum() for n, v in self.leaves.items()), torch.zeros(()))
                objective = loss + 0.5 * self.settings.prior * away
                losses.append(float(loss.detach()) / len(examples))
                if float(objective.detach()) < least:
                    least, kept = float(objective.detach()), losses[-1]
                    best = {name: value.detach().clone() for name, value in self.leaves.items()}
                improved = least < marked * (1 - self.settings.progress)
                marked, waited = (least, 0) if improved else (marked, waited + 1)
                if waited == self.settings.patience:
                    break
                optimizer.zero_grad()
                objective.backward()
                optimizer.step()
            for hook in hooks:
                hook.remove()
        return best, losses, kept


@pytest.mark.parametrize("begun", [False, True])
def test_a_cohort_gets_what_one_user_at_a_time_gets(any_toy: Toy, begun: bool) -> None:
    cohort = members(5)
    start = [Adapter.of(any_toy.basis, v) if begun and i % 2 else None for i, v in enumerate(toys.vectors(5))]
    outcomes = plora.fit_low_rank(any_toy.base, any_toy.basis, cohort, SHORT, start=start)
    for examples, first, outcome in zip(cohort, start, outcomes, strict=True):
        assert isinstance(outcome, LowRankFitted)
        wanted, losses, after = Straight(any_toy, SHORT, first).fit(examples)
        assert outcome.loss_before == pytest.approx(losses[0], abs=1e-5)
        assert outcome.loss == pytest.approx(after, abs=1e-5)
        for name, value in wanted.items():
            torch.testing.assert_close(outcome.adapter.tensors[name], value, atol=1e-5, rtol=0)
        assert torch.equal(outcome.adapter.vector, torch.zeros(8) if first is None else first.vector)


def test_everyone_stops_where_they_would_alone_and_keeps_their_best(bert: Toy) -> None:
    stops = set()
    outcomes = plora.fit_low_rank(bert.base, bert.basis, members(8), RESTLESS)
    for examples, outcome in zip(members(8), outcomes, strict=True):
        assert isinstance(outcome, LowRankFitted)
        _, losses, after = Straight(bert, RESTLESS, None).fit(examples)
        assert (outcome.steps, outcome.passes) == (len(losses) - 1, len(losses))
        assert outcome.loss == pytest.approx(after, abs=1e-4)
        stops.add((outcome.steps, after == losses[-1]))
    assert len(stops) > 2


def test_fitting_learns_and_the_adapter_speaks_as_was_fitted(any_toy: Toy) -> None:
    examples = toys.reviews(6, 5, ("the",))
    (outcome,) = plora.fit_low_rank(any_toy.base, any_toy.basis, [examples], LowRankSettings(steps=10, prior=0.01))
    assert isinstance(outcome, LowRankFitted)
    assert outcome.loss < outcome.loss_before
    assert outcome.passes == outcome.steps + 1
    if any_toy.lm:
        return
    texts = [example.text for example in examples]
    answers = plora.predict(any_toy.base, any_toy.basis, texts, [outcome.adapter] * len(texts))
    chances = [answer.probabilities[example.target] for answer, example in zip(answers, examples, strict=True)]
    assert -sum(map(math.log, chances)) / len(chances) == pytest.approx(outcome.loss, abs=1e-5)


@pytest.mark.parametrize("how", [SHORT, RESTLESS], ids=["short", "restless"])
def test_a_user_alone_with_one_and_with_63_others_gets_the_same_bytes(any_toy: Toy, how: LowRankSettings) -> None:
    crowd = members(64)
    (by_itself,) = fitted(any_toy.base, any_toy.basis, crowd[:1], how)
    with_one = fitted(any_toy.base, any_toy.basis, crowd[:2], how)
    with_all = fitted(any_toy.base, any_toy.basis, crowd, how)
    assert with_one[0] == by_itself
    assert with_all[:2] == with_one
    for user in range(3, 64, 6):
        assert fitted(any_toy.base, any_toy.basis, [crowd[user]], how)[0] == with_all[user]


@pytest.mark.parametrize("rank", [1, 3, 4])
def test_the_order_of_the_cohort_is_irrelevant(any_toy: Toy, rank: int) -> None:
    crowd, settings = members(24), LowRankSettings(rank=rank, steps=2)
    order = list(range(24))
    random.Random(0).shuffle(order)
    straight = fitted(any_toy.base, any_toy.basis, crowd, settings)
    shuffled = fitted(any_toy.base, any_toy.basis, [crowd[i] for i in order], settings)
    assert shuffled == [straight[user] for user in order]


def test_neither_are_the_windows(any_toy: Toy) -> None:
    crowd = members(9)
    whole = fitted(any_toy.base, any_toy.basis, crowd)
    numbers = sum(value.numel() for value in plora.loads_low_rank(whole[0]).tensors.values())
    for window in (1, 2 * numbers):
        assert fitted(any_toy.base, any_toy.basis, crowd, dataclasses.replace(SHORT, window=window)) == whole


@pytest.fixture(scope="module")
def poisoned() -> tuple[BaseModel, Basis]:
    """A BERT on which any text with the word "poison" gives NaN."""
    module, words = toys.bert(layers=3), toys.tokenizer(framed=True)
    with torch.no_grad():
        module.get_input_embeddings().weight[words.convert_tokens_to_ids("poison")] = torch.nan
    base = plora.wrap(module, words, kind=Kind.CLASSIFICATION, max_tokens=24)
    return base, toys.loud(toys.basis_on(module, base.fingerprint, layers=2))


@pytest.mark.parametrize("victims", [[0], [1, 4], [0, 5]])
def test_data_that_give_nan_fail_their_own_user_only(poisoned: tuple[BaseModel, Basis], victims: list[int]) -> None:
    base, basis = poisoned
    healthy = members(6)
    cohort = [list(examples) for examples in healthy]
    for user in victims:
        cohort[user].insert(len(cohort[user]) // 2, Example("the soup was poison", "like"))
    for user, outcome in enumerate(plora.fit_low_rank(base, basis, cohort, SHORT, engine=narrow(base, basis))):
        if user in victims:
            assert outcome == FitFailed(FitFailure.NOT_FINITE)
        else:
            assert isinstance(outcome, LowRankFitted)
            assert plora.dumps(outcome.adapter) == fitted(base, basis, [healthy[user]])[0]


def test_users_who_are_done_cost_nothing_more(poisoned: tuple[BaseModel, Basis]) -> None:
    base, basis = poisoned
    engine, rows = plora.Engine(base, basis), list[int]()
    engine.module.get_submodule("bert.pooler").register_forward_hook(lambda _, args, __: rows.append(len(args[0])))
    cohort = [[Example("the soup was poison", "like")] * 4 for _ in range(200)]
    plora.fit_low_rank(base, basis, [*cohort, ONE], SHORT, engine=engine)
    assert len(rows) == math.ceil(801 * 8 / engine.tokens_per_batch) + SHORT.steps


def test_users_who_cannot_be_fitted_leave_the_rest_untouched(bert: Toy) -> None:
    other = Adapter(bert.base.fingerprint, "0" * 64, torch.zeros(8))
    cohort = [[], ONE, [Example("the soup", "unheard of")], ONE, ONE]
    start = [None, None, None, other, None]
    engine = narrow(bert.base, bert.basis)
    outcomes = plora.fit_low_rank(bert.base, bert.basis, cohort, SHORT, engine=engine, start=start)
    assert outcomes[0] == FitFailed(FitFailure.NO_EXAMPLES)
    assert outcomes[2] == FitFailed(FitFailure.UNKNOWN_LABEL)
    assert outcomes[3] == FitFailed(FitFailure.WRONG_BASIS)
    for outcome in (outcomes[1], outcomes[4]):
        assert isinstance(outcome, LowRankFitted)
        assert plora.dumps(outcome.adapter) == fitted(bert.base, bert.basis, [ONE])[0]
    assert plora.fit_low_rank(bert.base, bert.basis, []) == []


@pytest.mark.parametrize(
    "examples",
    [
        ONE,
        ONE * 9,
        [Example("the soup was good", "like"), Example("the room was bad", "like")],
        [Example("soup " * 200, "like"), *ONE],
        [Example("", "dislike")],
        [Example("the soup was good", "like"), Example("the soup was good", "dislike")],
    ],
    ids=["one example", "identical examples", "one class", "text beyond the limit", "no text", "contradictions"],
)
def test_odd_users_get_a_finite_adapter_that_is_no_worse_to_them(any_toy: Toy, examples: list[Example]) -> None:
    (outcome,) = plora.fit_low_rank(any_toy.base, any_toy.basis, [examples])
    assert isinstance(outcome, LowRankFitted)
    assert outcome.loss <= outcome.loss_before
    assert all(bool(torch.isfinite(value).all()) for value in outcome.adapter.tensors.values())


def test_the_same_inputs_give_the_same_bytes_and_nothing_else_changes(any_toy: Toy) -> None:
    model, shared = toys.state_hash(any_toy.base.module.state_dict()), toys.state_hash(any_toy.basis.tensors)
    draws = torch.random.get_rng_state()
    first = fitted(any_toy.base, any_toy.basis, members(4))
    torch.manual_seed(7)
    assert fitted(any_toy.base, any_toy.basis, members(4)) == first
    torch.random.set_rng_state(draws)
    assert toys.state_hash(any_toy.base.module.state_dict()) == model
    assert toys.state_hash(any_toy.basis.tensors) == shared
    assert all(p.grad is None and not p.requires_grad for p in any_toy.base.module.parameters())


def test_a_user_stops_when_nothing_is_gained(bert: Toy) -> None:
    settings = LowRankSettings(steps=50, prior=1e6, patience=2)
    (outcome,) = plora.fit_low_rank(bert.base, bert.basis, [ONE], settings)
    assert isinstance(outcome, LowRankFitted)
    assert outcome.steps < 5
    assert outcome.loss == outcome.loss_before  # a mighty prior leaves the generic model
    assert not any(value.any() for name, value in outcome.adapter.tensors.items() if name.startswith("B."))


def test_an_engine_or_starts_that_do_not_fit_are_refused(bert: Toy) -> None:
    with pytest.raises(WrongBasis):
        plora.fit_low_rank(bert.base, bert.basis, [ONE], engine=plora.Engine(bert.base, bert.fresh))
    with pytest.raises(WrongRows):
        plora.fit_low_rank(bert.base, bert.basis, [ONE], start=[None, None])


def test_half_precision_fits_as_well(bert: Toy) -> None:
    examples, settings = toys.reviews(6, 5, ("the",)), LowRankSettings(steps=10, precision=plora.Precision.BF16)
    (outcome,) = plora.fit_low_rank(bert.base, bert.basis, [examples], settings)
    assert isinstance(outcome, LowRankFitted)
    assert outcome.loss < outcome.loss_before
