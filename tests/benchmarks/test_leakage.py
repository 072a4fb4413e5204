"""The canary audit in small: nobody's adapter knows another's canaries, and one that did would be found."""

import json
import math
import random
from dataclasses import replace

import pytest
import torch

import plora
from benchmarks.leakage.auc import across, auc, over_people
from benchmarks.leakage.audit import BasisTold, Told, audit
from benchmarks.leakage.canaries import Canaries, canaries
from benchmarks.leakage.cost import Cost
from benchmarks.leakage.report import HIGH, LOW, Found, document, facts
from plora import Engine, Example
from tests.faults.figures import record
from tests.plora import toys

SEED = 7


@pytest.fixture(scope="module")
def engine() -> Engine:
    """A Basis of the tiny BERT whose users enter at the task head."""
    torch.set_num_threads(1)
    base = plora.wrap(toys.bert(), toys.tokenizer(framed=True), kind=plora.Kind.CLASSIFICATION, max_tokens=24)
    settings = plora.PopulationSettings(epochs=8, rank=4, dimensions=16, shared_rate=1e-2, user_rate=2e-2)
    return Engine(base, plora.train_population(base, toys.toy_population(16, 8), settings).basis)


def marked(people: int, each: int, seed: int = SEED) -> list[Canaries]:
    """Canaries in the tiny model's words: sequences that occur once."""
    draw = random.Random(seed)
    texts = iter(dict.fromkeys(" ".join(draw.choices(toys.WORDS[:9], k=9)) for _ in range(4 * people * each)))

    def some() -> tuple[Example, ...]:
        return tuple(Example(next(texts), toys.LABELS[at % 2]) for at in range(each))

    return [Canaries(some(), some()) for _ in range(people)]


def everyone(people: int) -> list[list[Example]]:
    return [toys.reviews(12, 300 + user, toys.TRIBES[user % 4]) for user in range(people)]


def test_nobodys_adapter_knows_another_users_canaries(engine: Engine) -> None:
    told, missed = audit(engine, everyone(30), marked(30, 10), (None, 4.0))
    assert missed < 1e-4
    for each in told:
        assert LOW <= each.cross.value <= HIGH
        assert each.raised.low <= 0 <= each.raised.high
    record("C5", SEED, **figures(told))


def test_who_did_learn_anothers_canaries_is_found(engine: Engine) -> None:
    hidden = marked(8, 2)
    shared = [each for one in hidden for each in one.learned] * 4
    told, _ = audit(engine, [shared for _ in hidden], hidden, (None,))
    assert told[0].cross.value > HIGH


def figures(told: list[Told]) -> dict[str, float]:
    return {
        f"{side}_auc_{'plain' if each.epsilon is None else f'epsilon_{each.epsilon:g}'}": round(estimate.value, 4)
        for each in told
        for side, estimate in (("cross", each.cross), ("own", each.own))
    }


def test_canaries_are_nobody_elses_and_have_twins_with_their_label() -> None:
    found = canaries(50, 10, ("yes", "no"), 1)
    texts = [each.text for one in found for each in (*one.learned, *one.twins)]
    assert len(set(texts)) == 50 * 20
    for one in found:
        labels = [each.target for each in one.learned]
        assert labels == [each.target for each in one.twins]
        assert labels.count("yes") == 5
    assert found == canaries(50, 10, ("yes", "no"), 1) != canaries(50, 10, ("yes", "no"), 2)


def test_an_auc_is_the_chance_to_be_ahead() -> None:
    draw = torch.Generator().manual_seed(0)
    here, there = torch.randint(0, 9, (40,), generator=draw), torch.randint(0, 7, (30,), generator=draw)
    ahead = (here[:, None] > there).double() + 0.5 * (here[:, None] == there).double()
    assert auc(here, there) == pytest.approx(float(ahead.mean()))
    assert auc(torch.tensor([1.0, 2.0]), torch.tensor([0.0])) == 1.0


def test_an_interval_holds_the_mean_and_own_canaries_do_not_count_across() -> None:
    one = over_people([0.4, 0.5, 0.6, 0.7])
    assert one.low <= one.value <= one.high
    members, strangers = torch.zeros(6, 6, 4), torch.zeros(6, 6, 4)
    members[torch.arange(6), torch.arange(6)] = 1.0
    told = across(members, strangers)
    assert (told.low, told.value, told.high) == (0.5, 0.5, 0.5)
    assert not math.isnan(told.value)


def test_a_report_is_json_that_everybody_reads() -> None:
    some = over_people([0.5, 0.5])
    told = tuple(Told(epsilon, some, some, some) for epsilon in (None, math.inf, 4.0))
    costs = tuple(Cost(8, epsilon, some, some) for epsilon in (None, math.inf, 4.0))
    found = Found("toys", 2, 10, 1.0, 1e-7, told, BasisTold(some, some), costs)
    read = json.loads(json.dumps(facts([found]), allow_nan=False))
    assert read["isolated"] is True
    assert [each.get("epsilon", "no privacy") for each in read["datasets"][0]["told"]] == ["no privacy", None, 4.0]
    assert "| clip only | 0.500 [0.500, 0.500]" in document([found])
    leaking = replace(found, told=(replace(told[0], cross=over_people([0.6, 0.6])),))
    assert facts([leaking])["isolated"] is False
