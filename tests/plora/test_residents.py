"""Residents: whom a key stands for is in the next batch; nobody ever reads half a row, or another's."""

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import plora
from plora import Adapter, LowRankAdapter, Residents
from plora.errors import InvalidSetting, NotResident, ResidentsFull, WrongBaseModel, WrongBasis, WrongShape
from plora.lowrank import Layout
from tests.plora import toys


def vector(toy, number: float) -> Adapter:
    """A user whose numbers are all the same."""
    return Adapter.of(toy.basis, torch.full((8,), float(number)))


def low_rank(toy, seed: int, rank: int = 2) -> LowRankAdapter:
    layout = Layout.of(toy.basis, rank, 3.0)
    draw = torch.Generator().manual_seed(seed)
    flat = torch.randn(layout.numbers, generator=draw) * toys.LOUD
    return layout.adapter(toy.basis, flat, torch.randn(8, generator=draw))


def test_a_mixed_batch_of_residents_answers_as_the_adapters_themselves(any_toy):
    users = [vector(any_toy, 0.5), None, low_rank(any_toy, 1), low_rank(any_toy, 2, rank=3)]
    held = Residents[str](any_toy.basis, 2)
    for key, user in zip("abcd", users, strict=True):
        if user is not None:
            held.put(key, user)
    with plora.attached(any_toy.base, any_toy.basis) as live:
        for keys, worn in (("a-cd", users), ("-acc", [None, users[0], users[2], users[2]])):
            with live.use(worn):
                wanted = any_toy.logits()
            with live.use(held.rows([None if key == "-" else key for key in keys])):
                assert torch.equal(any_toy.logits(), wanted)


def test_what_is_put_is_in_the_next_batch_and_what_is_dropped_is_not(bert):
    held = Residents[str](bert.basis)
    held.put("a", vector(bert, 1))
    before = held.rows(["a"])
    held.put("a", vector(bert, 2))
    assert held.rows(["a", None, "a"]).vectors[:, 0].tolist() == [2, 0, 2]
    assert held.drop("a")
    assert not held.drop("a")
    assert "a" not in held
    with pytest.raises(NotResident) as caught:
        held.rows([None, "a", None, "b"])
    assert caught.value.rows == (1, 3)
    assert before.vectors[0].tolist() == [1] * 8  # a batch under way keeps what it began with


def test_numbers_are_zeroed_when_they_are_dropped(bert):
    held = Residents[str](bert.basis, 2)
    held.put("a", low_rank(bert, 1))
    held.put("b", vector(bert, 1))
    held.drop("a")
    held.clear()
    assert len(held) == 0
    banks = [held._vectors, *(bank for bank, _ in held._banks.values())]
    assert len(banks) == 2
    assert not any(block.any() for bank in banks for block in bank._blocks)


def test_it_grows_without_moving_anybody(bert):
    held = Residents[int](bert.basis, 3)
    for number in range(1, 201):
        held.put(number, vector(bert, number))
    first = held._vectors._blocks[0].data_ptr()
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0)).add(1).tolist()
    assert held.rows(order).vectors[:, 7].tolist() == order
    assert held._vectors._blocks[0].data_ptr() == first
    assert len(held) == 200
    assert held.size_bytes >= 200 * 8 * 4


def test_places_are_used_again(bert):
    held = Residents[int](bert.basis, 4)
    for number in range(1, 401):
        held.put(number, vector(bert, number))
        held.drop(number - 3)
    assert held.size_bytes == Residents[int](bert.basis, 4).size_bytes
    assert held.rows([398, 399, 400]).vectors[:, 0].tolist() == [398, 399, 400]


@given(
    st.lists(
        st.tuples(st.sampled_from("abcde"), st.sampled_from(["vector", "one", "two", "drop", "clear"])), max_size=40
    )
)
@settings(max_examples=60, deadline=None)
def test_a_table_of_residents_is_a_dict(bert, moves):
    held, wanted = Residents[str](bert.basis, 1), dict[str, Adapter | LowRankAdapter]()
    for at, (key, move) in enumerate(moves):
        if move == "drop":
            assert held.drop(key) == (wanted.pop(key, None) is not None)
        elif move == "clear":
            held.clear()
            wanted.clear()
        else:
            wanted[key] = vector(bert, at + 1) if move == "vector" else low_rank(bert, at, {"one": 1, "two": 2}[move])
            held.put(key, wanted[key])
    keys = [*wanted, None]
    users = [*wanted.values(), None]
    found = held.rows(keys)
    with plora.attached(bert.base, bert.basis) as live:
        assert torch.equal(found.vectors, live.vectors(users))
        expected = live.changes(users)
    assert (found.changes is None) == (expected is None)
    for name in bert.basis.spec.targets if expected is not None and found.changes is not None else ():
        assert torch.equal(found.changes[name].A, expected[name].A)
        assert torch.equal(found.changes[name].B, expected[name].B)


def test_readers_never_see_half_a_row_or_anothers(bert):
    """Writers put, drop and put again while readers gather; a row is of one user, whole, or there is none."""
    held, wrong, gathered = Residents[int](bert.basis, 4), list[str](), [0] * 2
    done = threading.Event()
    layout = Layout.of(bert.basis, 2, 2.0)

    def told(number: int) -> LowRankAdapter:
        return layout.adapter(bert.basis, torch.full((layout.numbers,), float(number)), torch.full((8,), float(number)))

    def write(first: int) -> None:
        for turn in range(300):
            key = first + turn % 3
            user = 100 * key + turn % 7 + 1
            held.put(key, told(user) if turn % 2 else vector(bert, user))
            if turn % 5 == 0:
                held.drop(key)

    def read(which: int) -> None:
        while not done.is_set():
            keys = [key for key in (0, 1, 2, 10, 11, 12) if key in held]
            try:
                found = held.rows([*keys, None])
            except NotResident:
                continue
            gathered[which] += 1
            for key, row in zip([*keys, None], found.vectors, strict=True):
                good = row[0] == 0 if key is None else 100 * key < row[0] <= 100 * key + 7
                if not good or bool((row != row[0]).any()):
                    wrong.append(f"{key}: {row.tolist()}")
            for change in (found.changes or {}).values():
                for at, row in enumerate(change.A.flatten(1)):
                    if bool((row != row[0]).any()) or float(row[0]) not in (0.0, float(found.vectors[at, 0])):
                        wrong.append("a change of another")

    readers = [threading.Thread(target=read, args=(which,)) for which in range(2)]
    writers = [threading.Thread(target=write, args=(first,)) for first in (0, 10)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join(60)
    done.set()
    for thread in readers:
        thread.join(60)
    assert not wrong
    assert min(gathered) > 0
    assert not held._left
    assert not held._reading


def test_a_place_is_not_given_to_another_while_a_batch_reads_it(bert):
    held = Residents[str](bert.basis, 4)
    held.put("a", vector(bert, 1))
    with held._read(["a"]) as seats:
        held.put("a", vector(bert, 2))
        held.drop("a")
        held.put("b", vector(bert, 3))
        assert held._vectors.gather([seats[0].vector])[0].tolist() == [1] * 8
    assert not held._vectors.gather([seats[0].vector]).any()


def test_what_does_not_belong_is_refused_and_leaves_the_table_as_it_was(bert, roberta):
    held = Residents[str](bert.basis, 2)
    held.put("a", vector(bert, 1))
    strange = Adapter(bert.base.fingerprint, "f" * 64, torch.zeros(8))
    with pytest.raises(WrongBaseModel):
        held.put("a", vector(roberta, 2))
    with pytest.raises(WrongBasis):
        held.put("a", strange)
    with pytest.raises(WrongShape):
        held.put("a", Adapter(bert.basis.base, bert.basis.fingerprint, torch.zeros(9)))
    assert held.rows(["a"]).vectors[0, 0] == 1
    with plora.attached(roberta.base, roberta.basis) as live, pytest.raises(WrongBasis), live.use(held.rows(["a"])):
        pass


def test_no_more_are_held_than_may_be(bert):
    held = Residents[str](bert.basis, 1, most=2)
    held.put("a", vector(bert, 1))
    held.put("b", vector(bert, 2))
    with pytest.raises(ResidentsFull):
        held.put("c", vector(bert, 3))
    held.put("b", vector(bert, 4))  # one who is there may still change
    held.drop("a")
    held.put("c", vector(bert, 5))
    assert held.rows(["b", "c"]).vectors[:, 0].tolist() == [4, 5]


@pytest.mark.parametrize("wrong", [{"capacity": 0}, {"capacity": 5, "most": 4}])
def test_a_table_that_can_not_be_is_refused(bert, wrong):
    with pytest.raises(InvalidSetting):
        Residents[str](bert.basis, **wrong)


def test_nothing_of_a_user_is_in_a_repr(bert):
    held = Residents[str](bert.basis)
    held.put("alice", vector(bert, 0.731))
    assert not any(word in f"{held!r}{held.rows(['alice'])!r}" for word in ("alice", "0.731"))
