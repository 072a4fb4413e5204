"""What free text is measured by: people, the cache, bits per token, rows."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.quality.bootstrap import Bootstrap
from benchmarks.quality.folds import TooFew
from benchmarks.quality.source import DataSet, Row
from benchmarks.quality.text import people, raws
from benchmarks.quality.text.answers import bits_per_token
from benchmarks.quality.text.cache import START, Cache, Weights, choose, mixed
from benchmarks.quality.text.raws import Raw, Said
from benchmarks.quality.text.report import markdown
from benchmarks.quality.text.settings import TextSettings
from benchmarks.quality.text.tally import rows

SETTINGS = TextSettings()


def data(users: int, rows_each: int = 10) -> DataSet:
    found = [
        Row(f"u{user}", f"text {at} of {user}", f"answer {at} by {user}", "test" if at >= rows_each - 3 else "train")
        for user in range(users)
        for at in range(rows_each)
    ]
    return DataSet("made", tuple(found), "")


def test_three_folds_make_everybody_a_newcomer_once():
    groups = [people.make(data(12), seed, SETTINGS) for seed in (10, 11, 12)]
    names = [person.name for group in groups for person in group.newcomers]
    assert sorted(names) == sorted(f"u{user}" for user in range(12))


def test_trainers_tuners_and_newcomers_share_nobody():
    group = people.make(data(24), 10, SETTINGS)
    parts = [{person.name for person in part} for part in (group.trainers, group.tuners, group.newcomers)]
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts)) == 24


def test_no_row_is_learned_from_and_tested_on():
    for person in people.make(data(9), 10, SETTINGS).newcomers:
        assert len(person.learn) == 7
        assert len(person.test) == 3
        assert not {one.text for one in person.learn} & {one.text for one in person.test}


def test_too_few_people_are_refused():
    with pytest.raises(TooFew):
        people.make(data(4), 10, SETTINGS)


@pytest.mark.parametrize("shots", [1, 2, 4, 16, -1])
def test_a_tuner_keeps_rows_for_a_test(shots: int):
    person = people.make(data(9), 10, SETTINGS).tuners[0]
    learn, test = people.halves(person, shots)
    assert learn + test == person.learn
    assert learn
    assert test


@pytest.mark.parametrize("answers", [[], [[1, 2, 1]], [[0, 3], [0, 2, 3], [1]]])
@pytest.mark.parametrize("before", [START, 0, 1, 4])
def test_the_mixture_with_the_cache_is_a_distribution(answers: list[list[int]], before: int):
    cache, weights = Cache(answers), Weights(0.2, 0.5, 2.0)
    model = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25], dtype=torch.float64)
    found = [
        mixed(model[token : token + 1], cache.chances([token] if before == START else [before, token])[-1:], weights)
        for token in range(5)
    ]
    assert float(torch.cat(found).sum()) == pytest.approx(1.0)


def test_a_cache_by_hand():
    cache = Cache([[5, 6], [5, 7]])
    there, one, two, times = cache.chances([5, 6])[1].tolist()
    assert (there, one, two, times) == (1.0, 0.25, 0.5, 2.0)
    weights = Weights(0.1, 0.4, 2.0)
    assert float(mixed(torch.tensor([0.2]), cache.chances([5, 6])[1:], weights)) == pytest.approx(
        (1 - 0.1 - 0.2) * 0.2 + 0.1 * 0.25 + 0.2 * 0.5
    )


def test_an_empty_cache_changes_nothing():
    chances = torch.tensor([0.2, 0.3], dtype=torch.float64)
    assert torch.equal(mixed(chances, Cache([]).chances([1, 2]), Weights(0.3, 0.6, 0.5)), chances)


def test_weights_follow_whether_the_cache_helps():
    model = torch.full((20,), 0.05, dtype=torch.float64)
    told, untold = Cache([[1] * 20]).chances([1] * 20), Cache([[2] * 20]).chances([1] * 20)
    assert choose([(model, told)]).two == 0.6
    helpless = choose([(model, untold)])
    assert (helpless.one, helpless.two) == (0.0, 0.0)


def test_bits_per_token_by_hand():
    assert bits_per_token(torch.tensor([0.5, 0.25, 0.125])) == pytest.approx(2.0)


def raw(seed: int, generic: list[float], ours: list[float]) -> Raw:
    said = (Said("generic", 0, tuple(generic)), Said("ours", 4, tuple(ours), 0.5, 64))
    users = tuple(f"{seed}-{at}" for at in range(len(generic)))
    return Raw("key", "made", seed, users, (7,) * len(users), (30,) * len(users), said, {})


def test_rows_compare_users_with_themselves():
    lines = rows([raw(10, [5.0, 6.0], [4.5, 5.5]), raw(11, [4.0, 9.0], [3.5, 8.5])], Bootstrap(0, 200))
    ours = next(line for line in lines if line["method"] == "ours")
    assert ours["bits"] == pytest.approx(5.5)
    assert ours["users"] == 4
    assert ours["regime"] == "few"
    assert [ours[f"delta_generic{end}"] for end in ("", "_low", "_high")] == pytest.approx([-0.5, -0.5, -0.5])
    assert ours["delta_cache"] is None


def test_the_table_names_every_method():
    table = markdown(rows([raw(10, [5.0, 6.0], [4.5, 5.5])], Bootstrap(0, 200)))
    assert "| 4 | ours | 5.000" in table
    assert "| 0 | generic |" in table


def test_raw_results_come_back_as_they_were(tmp_path: Path):
    one = raw(10, [5.0, math.pi], [4.5, 5.5])
    raws.write(tmp_path, one)
    assert raws.read(raws.place(tmp_path, "made", 10)) == one


def test_a_torn_file_is_no_result(tmp_path: Path):
    raws.write(tmp_path, raw(10, [5.0], [4.0]))
    place = raws.place(tmp_path, "made", 10)
    place.write_text(place.read_text()[:-20])
    assert raws.read(place) is None


def test_draws_and_seeds_do_not_make_results_stale():
    group = people.make(data(9), 10, SETTINGS)
    key = raws.key_of(group, SETTINGS)
    assert key == raws.key_of(group, replace(SETTINGS, seeds=(10,), draws=5))
    assert key != raws.key_of(group, replace(SETTINGS, tests_per_user=2))
