"""Shards and the spool that holds them: cut, named, sealed, and of use at their own place only."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import plora
from daemon.messages import BasisRequest
from daemon.population import identity_of, population_settings
from daemon.shards import cut, decode_shard, encode_shard, name_of
from daemon.spool import Spool
from storage.sealing import Unreadable

KEY = bytes(range(32))
CANARY = "zqcanaryzq"
texts = st.text(max_size=20)
users = st.lists(st.lists(st.tuples(texts, texts), min_size=1, max_size=4).map(tuple), max_size=12)


def population(taste, count: int = 6, examples: int = 8) -> list[tuple[tuple[str, str], ...]]:
    return [tuple((f"{text} {CANARY}", label) for text, label in taste(user, examples)) for user in range(count)]


def files_with(folder: Path, word: str) -> list[Path]:
    needles = (word.encode(), word.encode("utf-16-le"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if any(needle in path.read_bytes() for needle in needles)]


@given(users, st.integers(1, 60))
def test_shards_hold_every_user_once_and_in_order(users, size):
    shards = list(cut(users, size))
    assert [user for shard in shards for user in shard] == users
    for shard in shards[:-1]:
        weights = [sum(len(text.encode()) + len(label.encode()) for text, label in user) for user in shard]
        assert sum(weights) >= size > sum(weights[:-1])


@given(users.map(tuple), users.map(tuple))
def test_a_shard_survives_its_bytes_and_its_name_is_its_contents(one, other):
    assert decode_shard(encode_shard(one)) == one
    assert (name_of(KEY, one) == name_of(KEY, other)) == (one == other)
    assert name_of(KEY, one) != name_of(bytes(32), one)


def test_the_spool_holds_nothing_readable_and_only_for_its_place(tmp_path, taste):
    spool, shard = Spool(tmp_path, KEY), tuple(population(taste))
    name = name_of(KEY, shard)
    spool.keep("7", 0, name, shard)
    assert spool.shard("7", 0, name) == shard
    assert spool.shard("7", 1, name) is None
    assert spool.shard("8", 0, name) is None
    assert spool.shard("7", 0, "other") is None
    assert Spool(tmp_path, bytes(32)).shard("7", 0, name) is None
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert files_with(tmp_path, CANARY) == []
    (tmp_path / "basis-8").mkdir()
    file.rename(tmp_path / "basis-8" / "shard-0")
    assert spool.shard("8", 0, name) is None
    (tmp_path / "basis-8" / "shard-0").write_bytes(b"noise")
    assert spool.shard("8", 0, name) is None
    spool.forget("8")
    assert list(tmp_path.rglob("shard-*")) == []


@pytest.mark.parametrize("name", ["", "../7", "7/..", "a b", "x" * 33, "7\n"])
def test_a_name_that_is_no_basis_leaves_the_spool_alone(tmp_path, name):
    with pytest.raises(Unreadable):
        Spool(tmp_path / "spool", KEY).write(name, "checkpoint", "", b"x")
    assert list(tmp_path.rglob("*")) == []


def test_choices_reach_the_library():
    request = BasisRequest("7", 1, (), 3, 2, 5, 0.1, 4, 2, 0.2, 99, "ordinal")
    chosen = population_settings(request)
    assert (chosen.dimensions, chosen.rank, chosen.epochs, chosen.shared_rate) == (3, 2, 5, 0.1)
    assert (chosen.accumulate, chosen.patience, chosen.held_out, chosen.window) == (4, 2, 0.2, 99)
    assert chosen.link.value == "ordinal"
    assert population_settings(BasisRequest("7", 1)) == plora.PopulationSettings()
    assert population_settings(BasisRequest("7", 1), peers=3).accumulate == 3


def test_a_checkpoint_belongs_to_a_population_and_choices_not_to_an_attempt():
    same = {identity_of(BasisRequest("7", epoch, ("a", "b"))) for epoch in range(3)}
    others = {identity_of(BasisRequest("7", 1, ("a", "c"))), identity_of(BasisRequest("7", 1, ("a", "b"), rank=2))}
    assert len(same) == 1
    assert not same & others
