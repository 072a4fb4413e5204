"""People with an obvious habit are learned; nobody's text goes where it must not; a run goes on."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.quality.source import DataSet, Row
from benchmarks.quality.text import measured, people, raws
from benchmarks.quality.text.answers import answers, log_chances
from benchmarks.quality.text.language import make_tokenizer, spoken
from benchmarks.quality.text.measuring import measure
from benchmarks.quality.text.settings import Language, TextSettings
from benchmarks.quality.text.tally import Line
from plora import Engine, Example, FitSettings, Optimizer, PopulationSettings, train_population

HABITS = ("red is clearly better than", "i would rather take", "no doubt the winner here is")
THINGS = ("boat", "lamp", "chair", "kettle", "horse", "window")

SETTINGS = TextSettings(
    seeds=(10,),
    shots=(4,),
    wrong_users=2,
    other_shots=(),
    draws=200,
    max_tokens=48,
    language=Language(vocabulary=320, layers=1, width=32, heads=2, epochs=(6, 6), rate=1e-2, tokens=600),
    population=PopulationSettings(
        targets=("lm_head", "o_proj"), last_layers=None, rank=4, dimensions=4, epochs=10, prior=0.1, user_rate=5e-2
    ),
    fit=FitSettings(optimizer=Optimizer.ADAM, prior=0.1),
)


def crowd(users: int = 36) -> DataSet:
    draw, found = random.Random(0), []
    for user in range(users):
        for at in range(12):
            one, other = draw.sample(THINGS, 2)
            target = f"{HABITS[user % 3]} the {one}"
            found.append(Row(f"u{user}", f"{one} or {other} {at} {user}?", target, "test" if at >= 8 else "train"))
    return DataSet("habits", tuple(found), "")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("text")


@pytest.fixture(scope="module")
def lines(folder: Path) -> list[Line]:
    torch.set_num_threads(1)
    return measured([crowd()], folder, SETTINGS)


def one(lines: list[Line], method: str, shots: int) -> Line:
    return next(line for line in lines if (line["method"], line["shots"]) == (method, shots))


def test_a_habit_is_learned_from_four_rows(lines: list[Line]):
    assert one(lines, "ours", 4)["delta_generic_high"] < -0.1


def test_a_wrong_users_vector_does_not_help(lines: list[Line]):
    gain = -one(lines, "ours", 4)["delta_generic"]
    assert -one(lines, "wrong_user", 4)["delta_generic"] < 0.3 * gain


def test_the_cache_knows_the_habit_too_and_both_are_compared(lines: list[Line]):
    assert one(lines, "cache", 4)["delta_generic"] < 0
    assert one(lines, "ours_cache", 4)["delta_cache"] is not None
    assert {line["method"] for line in lines if line["shots"] == 0} == {"generic", "language_model", "plain_lora"}


def test_a_second_run_measures_nothing_again(folder: Path, lines: list[Line]):
    file = raws.place(folder, "habits", 10)
    before = file.stat().st_mtime_ns
    assert measured([crowd()], folder, SETTINGS) == lines
    assert file.stat().st_mtime_ns == before


def test_no_newcomers_or_tuners_text_reaches_the_tokenizer_or_the_model():
    plain = crowd(12)
    group = people.make(plain, 10, SETTINGS)
    others = {person.name for person in (*group.newcomers, *group.tuners)}
    tests = {example.text for person in group.trainers for example in person.test}
    changed = [
        replace(row, text=f"zzz {row.text}", label="qqq vvv") if row.user in others or row.text in tests else row
        for row in plain.rows
    ]
    again = people.make(DataSet("habits", tuple(changed), ""), 10, SETTINGS)
    first, second = (spoken(each.trainers, SETTINGS, 10) for each in (group, again))
    assert first.base.fingerprint == second.base.fingerprint
    assert first.base.tokenizer.get_vocab() == second.base.tokenizer.get_vocab()


def test_the_same_fold_gives_the_same_figures():
    small = replace(SETTINGS, language=replace(SETTINGS.language, epochs=(1, 1)), shots=())
    group = people.make(crowd(12), 10, small)
    first, second = measure(group, small), measure(group, small)
    assert [said.bits for said in first.said] == [said.bits for said in second.said]


def test_chances_of_an_answer_are_the_models_own():
    group = people.make(crowd(12), 10, SETTINGS)
    made = spoken(group.trainers, SETTINGS, 10)
    rows = [made.examples(person.learn) for person in group.trainers]
    population = train_population(made.base, rows, replace(SETTINGS.population, epochs=1))
    engine = Engine(made.base, population.basis)
    asked = answers(engine, rows[:2])
    row = asked.rows[3]
    with torch.no_grad():
        logits = engine.module(input_ids=torch.tensor([row.ids])).logits[0].double().log_softmax(-1)
    wanted = torch.stack([logits[at - 1, row.ids[at]] for at in range(row.target, len(row.ids))])
    assert torch.allclose(log_chances(engine, asked, None)[3], wanted, atol=1e-4)


@pytest.mark.parametrize("text", ["", "日本語のテキスト", "a" * 500, "\x00 \u200f"])
def test_any_text_is_read(text: str):
    group = people.make(crowd(12), 10, SETTINGS)
    small = replace(SETTINGS, language=replace(SETTINGS.language, epochs=(1, 1)))
    made = spoken(group.trainers, small, 10)
    basis = train_population(made.base, [[Example("a", "b c")] * 2] * 2, replace(small.population, epochs=1)).basis
    engine = Engine(made.base, basis)
    asked = answers(engine, [made.examples([Example(text, text)])])
    assert all(bool(torch.isfinite(each).all()) for each in log_chances(engine, asked, None))


def test_a_tokenizer_ends_prompts_and_gives_back_what_it_read():
    tokenizer = make_tokenizer(["one two three"] * 50, 300)
    ids = tokenizer("one two")["input_ids"]
    assert ids[-1] == tokenizer.convert_tokens_to_ids("<sep>")
    assert tokenizer.decode(ids[:-1]).strip() == "one two"
