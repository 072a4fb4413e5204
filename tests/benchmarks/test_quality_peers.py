"""What others do with a user's rows, on a tiny model and toy people: every method answers, learns and keeps apart."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import plora
from benchmarks.quality.folds import Fold, Person
from benchmarks.quality.methods import Method, Said
from benchmarks.quality.peers import PEERS, soft_prompt, user_lora
from benchmarks.quality.peers.descent import Course
from benchmarks.quality.peers.plora_reference import reference
from benchmarks.quality.peers.trial import inner
from benchmarks.quality.peers.userid import identifier
from benchmarks.quality.settings import ALL, Settings
from benchmarks.quality.shared import Shared
from plora import Example, LowRankAdapter, PopulationSettings
from tests.plora import toys

TEXTS, ROWS, SHOTS = 10, 16, 8
ALONE = ("plain_lora", "head", "user_lora", "soft_prompt", "plora_reference")
"""Methods whose users do not know each other."""

PERSONAL = tuple(name for name in PEERS if name != "plain_lora")


def person(name: str, tribe: int, seed: int) -> Person:
    rows = toys.reviews(ROWS + TEXTS, seed, toys.TRIBES[tribe])
    return Person(name, tuple(rows[:ROWS]), tuple(rows[ROWS:]))


def make_fold(labels: tuple[str, ...] = toys.LABELS, *, ordinal: bool = False) -> Fold:
    population = tuple(person(f"old{at}", (2, 2, 0, 3)[at % 4], at) for at in range(12))
    newcomers = tuple(person(f"new{at}", at, 100 + at) for at in range(4))
    return Fold("toy", 1, labels, ordinal, population, newcomers)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    """Of a tiny classifier in a folder, as Hugging Face saves it."""
    folder = tmp_path_factory.mktemp("model")
    toys.bert().save_pretrained(folder)
    toys.tokenizer(framed=True).save_pretrained(folder)
    population = PopulationSettings(epochs=8, rank=4, dimensions=4, last_layers=1, shared_rate=1e-2, user_rate=2e-2)
    return Settings(model=str(folder), max_tokens=24, population=population)


@pytest.fixture(scope="module")
def shared(settings) -> Shared:
    return Shared(make_fold(), settings)


@pytest.fixture(scope="module")
def made(shared) -> Callable[[str], Method]:
    """A method by its name, made once."""
    kept: dict[str, Method] = {}

    def find(name: str) -> Method:
        if name not in kept:
            kept[name] = PEERS[name](shared)
        return kept[name]

    return find


def loss(people: tuple[Person, ...], said: Said, labels: tuple[str, ...] = toys.LABELS) -> float:
    costs = []
    for one, chances in zip(people, said.chances, strict=True):
        targets = torch.tensor([labels.index(example.target) for example in one.test])
        costs.append(-float(chances.gather(1, targets[:, None]).mean()))
    return sum(costs) / len(costs)


def briefly(settings: Settings) -> Settings:
    return replace(settings, population=replace(settings.population, epochs=1))


def same(left: Tensor, right: Tensor) -> bool:
    return bool(torch.equal(left, right))


@pytest.mark.parametrize("name", PEERS)
@pytest.mark.parametrize(("shots", "known"), [(0, False), (2, False), (ALL, False), (ALL, True)])
def test_log_probabilities_are_normalised_and_one_row_for_each_test(made, shared, name, shots, known):
    people = shared.fold.population if known else shared.fold.newcomers
    said = made(name).say(people, shots, known)
    assert made(name).name == name
    assert [tuple(chances.shape) for chances in said.chances] == [(TEXTS, 2)] * len(people)
    assert all(chances.dtype == torch.float64 for chances in said.chances)
    assert all(torch.allclose(chances.exp().sum(1), torch.ones(TEXTS).double()) for chances in said.chances)
    assert said.seconds >= 0
    assert said.bytes >= 0


@pytest.mark.parametrize("name", PERSONAL)
def test_an_obvious_habit_is_learned(made, shared, name):
    new, known = shared.fold.newcomers, shared.fold.population
    plain = made("plain_lora")
    assert loss(new, made(name).say(new, ALL, known=False)) < loss(new, plain.say(new, ALL, known=False)) - 0.02
    assert loss(known, made(name).say(known, ALL, known=True)) < loss(known, plain.say(known, ALL, known=True)) - 0.02


@pytest.mark.parametrize("begin", [user_lora.begin, soft_prompt.begin])
@pytest.mark.parametrize("at", range(4))
def test_a_users_own_numbers_learn_its_habit_with_time(shared, begin, at):
    begun, people = begin(shared), shared.fold.newcomers[at : at + 1]
    numbers = begun.numbers([people[0].learn], Course(5e-2, steps=60))
    before, after = (begun.answers(people, each) for each in (begun.start[None], numbers))
    assert loss(people, Said(after, 0.0, 0)) < loss(people, Said(before, 0.0, 0)) - 0.1


@pytest.mark.parametrize("name", PEERS)
def test_the_same_people_get_the_same_answers_again(made, shared, name):
    people = shared.fold.newcomers
    first, again = (made(name).say(people, SHOTS, known=False) for _ in range(2))
    assert all(same(left, right) for left, right in zip(first.chances, again.chances, strict=True))


@pytest.mark.parametrize("name", ["userid", "plora_reference"])
def test_a_method_made_anew_says_the_same(settings, name):
    fold, brief = make_fold(), briefly(settings)
    methods = [PEERS[name](Shared(fold, brief)) for _ in range(2)]
    first, second = (method.say(fold.newcomers[:2], SHOTS, known=False) for method in methods)
    assert all(same(left, right) for left, right in zip(first.chances, second.chances, strict=True))


@pytest.mark.parametrize("name", ALONE)
def test_another_users_rows_change_nothing_of_mine(made, shared, name):
    mine, other = shared.fold.newcomers[2:]
    turned = replace(other, learn=tuple(replace(one, target=_other(one.target)) for one in other.learn))
    together = made(name).say((mine, other), SHOTS, known=False).chances
    beside = made(name).say((turned, mine), SHOTS, known=False).chances
    assert same(together[0], beside[1])
    assert same(together[0], made(name).say((mine,), SHOTS, known=False).chances[0])
    if name != "plain_lora":
        assert not same(together[1], beside[0])


@pytest.mark.parametrize("name", PEERS)
def test_nothing_of_a_test_but_its_text_is_read(made, shared, name):
    people = shared.fold.newcomers[:2]
    blind = tuple(replace(one, test=tuple(Example(test.text, "never seen") for test in one.test[:3])) for one in people)
    full, part = (made(name).say(each, SHOTS, known=False).chances for each in (people, blind))
    assert all(torch.allclose(left[:3], right, atol=1e-5) for left, right in zip(full, part, strict=True))


@pytest.mark.parametrize("name", ALONE)
def test_rows_after_the_shots_are_not_learned_from(made, shared, name):
    people = shared.fold.newcomers[:2]
    fewer = tuple(replace(one, learn=one.learn[:SHOTS]) for one in people)
    full, part = (made(name).say(each, SHOTS, known=False).chances for each in (people, fewer))
    assert all(same(left, right) for left, right in zip(full, part, strict=True))


def test_the_plain_lora_says_the_same_to_everybody_whatever_they_gave(made, shared):
    people = shared.fold.newcomers
    none, all_rows = (made("plain_lora").say(people, shots, known=False).chances for shots in (0, ALL))
    assert all(same(left, right) for left, right in zip(none, all_rows, strict=True))


@pytest.mark.parametrize("name", ["head", "user_lora"])
def test_zero_shots_are_answered_by_the_model_that_is_built_upon(made, shared, name):
    people = shared.fold.newcomers
    own, plain = (made(each).say(people, 0, known=False).chances for each in (name, "plain_lora"))
    assert all(torch.allclose(left, right, atol=1e-5) for left, right in zip(own, plain, strict=True))


def test_ordered_labels_are_answered_by_every_method(settings):
    rows = [
        Example(f"the soup was {('bad', 'good')[at % 2]} and {toys.WORDS[at % 6]}", str(at % 3)) for at in range(24)
    ]
    people = tuple(Person(f"u{at}", tuple(rows[:12]), tuple(rows[12:])) for at in range(9))
    few = briefly(settings)
    shared = Shared(Fold("toy", 1, ("0", "1", "2"), True, people[:6], people[6:]), few)
    for name, make in PEERS.items():
        said = make(shared).say(shared.fold.newcomers, 4, known=False)
        assert all(torch.allclose(one.exp().sum(1), torch.ones(12).double()) for one in said.chances), name


def test_a_population_too_small_for_a_trial_takes_the_middle_strength(settings):
    fold = make_fold()
    few = briefly(settings)
    head = PEERS["head"](Shared(replace(fold, population=fold.population[:3]), few))
    assert head.say(fold.newcomers, 4, known=False).chances
    assert list(head.choice.made.values()) == [3.0]


def test_a_trial_shares_no_people_with_the_newcomers_and_no_text_between_its_sides():
    fold = make_fold()
    found = inner(fold)
    assert {one.name for one in (*found.population, *found.newcomers)} == {one.name for one in fold.population}
    learned = {example.text for one in (*found.population, *found.newcomers) for example in one.learn}
    assert not learned & {example.text for one in found.newcomers for example in one.test}
    given = {example for one in fold.population for example in one.learn}
    assert all(set(one.learn) | set(one.test) <= given for one in (*found.population, *found.newcomers))


def test_an_identifier_is_fixed_and_a_users_own(shared):
    first, again, other = (identifier(shared.base, name, 1) for name in ("a", "a", "b"))
    assert first == again != other


def test_the_reference_is_the_papers_but_for_rates_and_epochs(settings):
    found = reference(settings.population)
    assert (found.dimensions, found.rank, found.alpha, found.dropout, found.prior) == (512, 64, 128.0, 0.1, 0.0)
    assert (found.personalized_dropout, found.label_bias) == (0.1, False)
    assert found.mutual_information is plora.MutualInformation.REFERENCE
    assert (found.epochs, found.shared_rate) == (settings.population.epochs, settings.population.shared_rate)


def test_the_fitted_numbers_of_a_user_lora_are_a_low_rank_adapter_of_the_library(shared):
    begun = user_lora.begin(shared)
    one = shared.fold.newcomers[0]
    numbers = begun.numbers([one.learn], Course(3e-3))
    basis = shared.plain.basis
    adapter = begun.voice.layout.adapter(basis, numbers[0], torch.zeros(basis.spec.dimensions))
    assert isinstance(adapter, LowRankAdapter)
    told = plora.predict(shared.base, basis, [test.text for test in one.test], [adapter] * TEXTS)
    wanted = torch.tensor([[answer.probabilities[label] for label in toys.LABELS] for answer in told])
    assert torch.allclose(begun.answers([one], numbers)[0].exp().float(), wanted, atol=1e-4)


def test_the_descent_is_that_of_torch_and_peft(shared):
    """One user, by hand: PEFT's LoRA on the folded model, torch's AdamW, the same start and rates."""
    peft = pytest.importorskip("peft")
    begun, rows, course = user_lora.begin(shared), shared.fold.newcomers[3].learn[:6], Course(1e-2, steps=4)
    numbers = begun.numbers([rows], course)
    layout, basis = begun.voice.layout, shared.plain.basis
    module = plora.wrap(toys.bert(), shared.base.tokenizer, kind=shared.base.kind, max_tokens=24).module
    _fold_in(module, basis)
    names = list(layout.targets)
    config = peft.LoraConfig(r=layout.rank, lora_alpha=layout.alpha, lora_dropout=0.0, target_modules=names)
    model = peft.get_peft_model(module, config)
    theirs = dict(model.named_parameters())
    for key, value in layout.parts(begun.start[None]).items():
        theirs[f"base_model.model.{key[2:]}.lora_{key[0]}.default.weight"].data.copy_(value[0])
    learnt = [value for name, value in theirs.items() if "lora_" in name]
    optimizer = torch.optim.AdamW(learnt, lr=course.rate, weight_decay=course.decay)
    batch = shared.base.tokenizer([row.text for row in rows], padding=True, return_tensors="pt")
    targets = torch.tensor([toys.LABELS.index(row.target) for row in rows])
    for step in range(course.steps):
        optimizer.param_groups[0]["lr"] = course.rate * (1 - step / course.steps)
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, targets).backward()
        optimizer.step()
    for key, value in layout.parts(numbers).items():
        found = theirs[f"base_model.model.{key[2:]}.lora_{key[0]}.default.weight"]
        assert torch.allclose(value[0], found, atol=1e-4), key


def _fold_in(module: torch.nn.Module, basis: plora.Basis) -> None:
    """The shared LoRA and the task head, as part of the model's own weights."""
    for name in basis.spec.targets:
        layer = module.get_submodule(name)
        layer.weight.data += basis.spec.scale * basis.tensors[f"B.{name}"] @ basis.tensors[f"A.{name}"]
    module.classifier.load_state_dict(basis.head())


def _other(label: str) -> str:
    return next(each for each in toys.LABELS if each != label)
