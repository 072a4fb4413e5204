"""The document that a version's statistics are kept in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.learnt import Learnt, dumps, loads

SEQS = st.lists(st.integers(0, 2**63), max_size=70).map(tuple)
FROZEN = b"PLD1" + bytes.fromhex("00000002" + "0000000000000007" + "00000000000f4240") + b"statistics"


@given(SEQS, st.binary(max_size=2000))
def test_what_was_written_is_read(seqs, statistics):
    assert loads(dumps(Learnt(seqs, statistics))) == Learnt(seqs, statistics)


def test_the_format_stays():
    assert loads(FROZEN) == Learnt((7, 1_000_000), b"statistics")
    assert dumps(Learnt((7, 1_000_000), b"statistics")) == FROZEN


@pytest.mark.parametrize("document", [b"", b"PLD1", b"PLD1\0\0\0", b"PLD1\0\0\0\2" + bytes(15), b"PLD2" + FROZEN[4:]])
def test_what_another_release_wrote_is_nothing_to_go_on_from(document):
    assert loads(document) is None


def test_no_statistics_show_in_a_repr():
    assert "secret" not in repr(Learnt((1,), b"secret"))
