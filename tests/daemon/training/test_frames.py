"""A text in sealed frames: told as it was sent, or noticed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.frames import MAX_FRAME_BYTES, FrameWriter, read_frames
from daemon.transport import Head, Purpose, head_of
from storage import Unreadable

KEY, OTHER = bytes(range(32)), bytes(32)
HEAD = head_of(Purpose.GENERATE)
PARTS = [b"", b"the soup", b"\x00" * 70, b"was good"]


def frames(parts: list[bytes] = PARTS, head: Head = HEAD) -> list[bytes]:
    writer = FrameWriter(KEY, head)
    return [writer.frame(part, last=at == len(parts) - 1) for at, part in enumerate(parts)]


def told(chunks: list[bytes], key: bytes = KEY, head: Head = HEAD) -> list[bytes]:
    return list(read_frames(key, head, chunks))


@given(parts=st.lists(st.binary(max_size=50), min_size=1, max_size=6), sizes=st.lists(st.integers(1, 40), min_size=1))
def test_however_its_bytes_arrive_it_is_told_as_it_was_sent(parts, sizes):
    stream, chunks, at = b"".join(frames(parts)), [], 0
    while at < len(stream):
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(stream[at : at + size])
        at += size
    assert told(chunks) == parts


SPOILT = {
    "nothing": [],
    "without the last": frames()[:-1],
    "without the first": frames()[1:],
    "without one in the middle": [frames()[0], *frames()[2:]],
    "two of them changed": [frames()[1], frames()[0], *frames()[2:]],
    "one told twice": [frames()[0], *frames()],
    "cut within a frame": [b"".join(frames())[:-1]],
    "the end of another text": [*frames()[:2], *frames(head=head_of(Purpose.GENERATE))[2:]],
    "an earlier frame called the last": [frames()[0][:4] + b"\x01" + frames()[0][5:]],
    "a mark that is none": [frames()[0][:4] + b"\x02" + frames()[0][5:]],
    "an empty frame": [bytes(5)],
    "a frame of 4 GB": [b"\xff" * 5],
    "a frame a little too large": [(MAX_FRAME_BYTES + 1).to_bytes(4, "big") + b"\x01"],
}


@pytest.mark.parametrize("chunks", SPOILT.values(), ids=SPOILT)
def test_whatever_else_arrives_is_noticed(chunks):
    with pytest.raises(Unreadable):
        told(chunks)


@given(at=st.integers(0, len(b"".join(frames())) - 1), bit=st.integers(0, 7))
def test_no_bit_can_be_changed(at, bit):
    stream = bytearray(b"".join(frames()))
    stream[at] ^= 1 << bit
    with pytest.raises(Unreadable):
        told([bytes(stream)])


def test_it_opens_for_its_request_and_key_alone():
    with pytest.raises(Unreadable):
        told(frames(), key=OTHER)
    with pytest.raises(Unreadable):
        told(frames(), head=head_of(Purpose.GENERATE))
    with pytest.raises(Unreadable):
        told(frames(), head=Head(Purpose.PREDICT, HEAD.request))


def test_content_is_not_readable_on_the_way_nor_is_the_key_in_a_repr():
    assert b"soup" not in b"".join(frames())
    assert KEY.hex() not in repr(FrameWriter(KEY, HEAD))
    assert repr(KEY) not in repr(FrameWriter(KEY, HEAD))
