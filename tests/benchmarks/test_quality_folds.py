"""Who is new and who is known, what is learned and what is tested."""

from dataclasses import replace

import pytest

from benchmarks.quality.folds import TooFew, digest, make
from benchmarks.quality.settings import Settings
from benchmarks.quality.source import DataSet, Row

SETTINGS = Settings()


def data(users=12, rows=10, split=True, labels=("dislike", "like")) -> DataSet:
    made = [
        Row(f"u{user}", f"text {user % 4} {at}", labels[(user + at) % len(labels)], _side(at) if split else None)
        for user in range(users)
        for at in range(rows)
    ]
    return DataSet("toy", tuple(made), "digest")


def _side(at):
    return "test" if at % 3 == 0 else "train"


def names(people):
    return {person.name for person in people}


def test_a_fold_is_the_same_whenever_it_is_made_and_whatever_order_the_rows_have():
    forward = data()
    backward = DataSet("toy", forward.rows[::-1], "digest")
    assert digest(make(forward, 10, SETTINGS)) == digest(make(forward, 10, SETTINGS))
    assert digest(make(forward, 10, SETTINGS)) == digest(make(backward, 10, SETTINGS))
    assert digest(make(forward, 10, SETTINGS)) != digest(make(forward, 11, SETTINGS))


@pytest.mark.parametrize("first", [10, 13, 1])
def test_three_seeds_make_everybody_a_newcomer_once(first):
    made = [make(data(), first + at, SETTINGS) for at in range(3)]
    groups = [names(fold.newcomers) for fold in made]
    assert set.union(*groups) == {f"u{user}" for user in range(12)}
    assert sum(map(len, groups)) == 12
    for fold in made:
        assert not names(fold.population) & names(fold.newcomers)
        assert len(fold.population) + len(fold.newcomers) == 12


def test_the_next_three_seeds_shuffle_anew():
    groups = [names(make(data(), seed, SETTINGS).newcomers) for seed in range(10, 16)]
    assert not all(group in groups[:3] for group in groups[3:])


@pytest.mark.parametrize("split", [True, False])
def test_no_test_text_is_ever_learned_from_by_anybody(split):
    fold = make(data(rows=20, split=split), 10, SETTINGS)
    everybody = [*fold.population, *fold.newcomers]
    for person in everybody:
        assert not {one.text for one in person.learn} & {one.text for one in person.test}
    if not split:
        learned = {one.text for person in everybody for one in person.learn}
        assert not learned & {one.text for person in everybody for one in person.test}
        assert 0.2 < len({one.text for p in everybody for one in p.test}) / 80 < 0.6


def test_shots_are_the_first_rows_of_one_order_that_the_seed_decides():
    fold, other = make(data(), 10, SETTINGS), make(data(), 13, SETTINGS)
    person = fold.population[0]
    assert person.first(4)[:2] == person.first(2)
    assert person.first(-1) == person.learn == person.first(99)
    again = next(one for one in (*other.population, *other.newcomers) if one.name == person.name)
    assert set(again.learn) == set(person.learn)
    assert again.learn != person.learn
    assert again.test == person.test


def test_sizes_are_capped():
    small = replace(SETTINGS, people=6, rows_per_user=3, tests_per_user=2)
    fold = make(data(), 10, small)
    assert len(fold.population) + len(fold.newcomers) == 6
    assert all(len(person.learn) == 3 and len(person.test) == 2 for person in (*fold.population, *fold.newcomers))


def test_a_label_that_only_tests_have_stays_in_the_tests_and_is_no_label_of_the_fold():
    rows = [*data().rows, Row("u1", "odd", "odd label", "test")]
    fold = make(DataSet("toy", tuple(rows), "digest"), 10, SETTINGS)
    assert fold.labels == ("dislike", "like")
    tests = [one for person in (*fold.population, *fold.newcomers) for one in person.test]
    assert "odd label" in {one.target for one in tests}


def test_newcomers_learn_only_labels_that_the_population_gave():
    base = data()
    new = sorted(names(make(base, 10, SETTINGS).newcomers))[0]
    extra = [Row(new, f"own {at}", "private", "train") for at in range(3)]
    fold = make(DataSet("toy", (*base.rows, *extra), "digest"), 10, SETTINGS)
    assert "private" not in fold.labels
    assert "private" not in {one.target for person in fold.newcomers for one in person.learn}


def test_labels_stand_by_number_where_they_are_grades():
    fold = make(data(labels=("10", "9", "2")), 10, SETTINGS)
    assert fold.ordinal
    assert fold.labels == ("2", "9", "10")


def test_users_without_both_sides_take_no_part_and_too_few_are_refused():
    rows = (*data().rows, Row("only-train", "a", "like", "train"), Row("only-test", "b", "like", "test"))
    fold = make(DataSet("toy", rows, "digest"), 10, SETTINGS)
    assert not names((*fold.population, *fold.newcomers)) & {"only-train", "only-test"}
    with pytest.raises(TooFew, match="2 users"):
        make(data(users=2), 10, SETTINGS)
    with pytest.raises(TooFew, match="one label only"):
        make(data(labels=("like",)), 10, SETTINGS)


def test_a_fold_shows_nobody():
    said = repr(make(data(), 10, SETTINGS))
    assert "u1" not in said
    assert "text" not in said
