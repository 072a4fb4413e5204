"""Only what was sealed as exactly this request, or as the answer to it, opens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.transport import (
    Body,
    Head,
    Purpose,
    head_of,
    seal_answer,
    seal_request,
    unseal_answer,
    unseal_request,
)
from storage.sealing import Unreadable

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
HEAD = Head(Purpose.FIT, "0" * 32, (("run:1", 1), ("run:2", 7)))
BODY = Body(b'{"text":"nobody may read this"}', b"basis")

bodies = st.builds(Body, st.binary(max_size=200), st.binary(max_size=40_000))
heads = st.builds(
    Head,
    st.sampled_from(Purpose),
    st.text("0123456789abcdef", min_size=32, max_size=32),
    st.lists(st.tuples(st.text(max_size=8), st.integers(0, 2**40)), max_size=80).map(tuple),
)


@given(heads, bodies)
def test_a_request_opens_as_what_it_was_sealed(head, body):
    assert unseal_request(KEY, seal_request(KEY, head, body)) == (head, body)


@given(heads, bodies)
def test_an_answer_opens_as_the_answer_to_its_request(head, body):
    assert unseal_answer(KEY, head, seal_answer(KEY, head, body)) == body


def test_nothing_of_the_body_is_readable_on_the_way():
    assert b"nobody" not in seal_request(KEY, HEAD, BODY)
    assert b"nobody" not in seal_answer(KEY, HEAD, BODY)


def test_another_key_opens_nothing():
    with pytest.raises(Unreadable):
        unseal_request(OTHER_KEY, seal_request(KEY, HEAD, BODY))
    with pytest.raises(Unreadable):
        unseal_answer(OTHER_KEY, HEAD, seal_answer(KEY, HEAD, BODY))


def test_an_answer_to_another_request_does_not_open():
    sealed = seal_answer(KEY, HEAD, BODY)
    for other in (
        head_of(HEAD.purpose, HEAD.claims),
        Head(HEAD.purpose, HEAD.request, (("run:1", 1), ("run:2", 8))),
        Head(Purpose.PREDICT, HEAD.request, HEAD.claims),
    ):
        with pytest.raises(Unreadable):
            unseal_answer(KEY, other, sealed)


def test_a_request_is_not_an_answer_to_itself():
    envelope = seal_request(KEY, HEAD, BODY)
    with pytest.raises(Unreadable):
        unseal_answer(KEY, HEAD, envelope[12 + len(HEAD.encode()) :])


def test_a_head_moved_to_another_run_does_not_open():
    envelope = seal_request(KEY, HEAD, BODY)
    moved = envelope.replace(b'["run:1",1]', b'["run:3",1]')
    assert moved != envelope
    with pytest.raises(Unreadable):
        unseal_request(KEY, moved)


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_no_flipped_bit_opens(at, bit):
    envelope = bytearray(seal_request(KEY, HEAD, BODY))
    envelope[at % len(envelope)] ^= 1 << bit
    with pytest.raises(Unreadable):
        unseal_request(KEY, bytes(envelope))


@given(st.data())
def test_no_truncated_request_opens(data):
    envelope = seal_request(KEY, HEAD, BODY)
    with pytest.raises(Unreadable):
        unseal_request(KEY, envelope[: data.draw(st.integers(0, len(envelope) - 1))])


@given(st.binary(max_size=300))
def test_no_noise_opens(noise):
    for envelope in (noise, b"PLORAWK1" + noise):
        with pytest.raises(Unreadable):
            unseal_request(KEY, envelope)
