"""Texts over the wire: a real Ray Predictor streams them in sealed frames; what is wrong is told before the first."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import plora
from daemon.frames import FrameWriter, read_frames
from daemon.http_trainer import HttpTrainer
from daemon.in_process_trainer import InProcessTrainer
from daemon.models import Models
from daemon.predict_messages import GenerateRequest, Named, Sampling, Turn
from daemon.ray_child import RayChild
from daemon.trainer_errors import TrainerLost, TrainerRefuses
from daemon.trainer_order import TrainerOrder
from daemon.transport import Purpose, head_of
from storage.sealing import Unreadable
from tests.daemon.training.test_ray_child import unreadable
from tests.plora import toys

KEY = bytes(32)
PROMPT = "the soup was good and the bed"
ANN = Named("ann", 1, "a" * 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gpt2")
    toys.gpt2().save_pretrained(folder)
    tokenizer = toys.tokenizer(framed=False)
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def base(folder) -> plora.BaseModel:
    return plora.load(str(folder), kind=plora.Kind.CAUSAL_LM)


@pytest.fixture(scope="module")
def basis(base) -> plora.Basis:
    return toys.loud(toys.basis_on(base.module, base.fingerprint, labels=()))


def adapter(basis) -> bytes:
    return plora.dumps(plora.Adapter.of(basis, 6 * toys.vectors(1)[0]))


def text_of(trainer, basis, name: Named | None, prompt=PROMPT) -> str:
    request = GenerateRequest(basis.fingerprint, prompt, name, sampling=Sampling(most_tokens=12))
    pieces = list(trainer.generate(request, lambda: plora.dumps(basis), lambda _: adapter(basis)))
    assert [piece.finish is None for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    return "".join(piece.text for piece in pieces)


@pytest.mark.system
def test_ray_streams_what_the_library_writes_and_sees_none_of_it(folder, base, basis, ring, tmp_path):
    order = TrainerOrder(model=str(folder), kind="causal-lm", device="cpu", max_tokens=32)
    child = RayChild(order, key_file=ring.transport_path, data_dir=tmp_path)
    child.start()
    try:
        assert child.wait_ready(120)
        remote, local = HttpTrainer(lambda: child.url, ring.transport), InProcessTrainer(lambda: Models(base), KEY)
        wanted = {name: text_of(local, basis, name) for name in (ANN, None)}
        assert wanted[ANN] != wanted[None]
        found: list[tuple[Named | None, str]] = []
        threads = [
            threading.Thread(target=lambda name=name: found.append((name, text_of(remote, basis, name))))
            for name in (ANN, None) * 6
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert len(found) == 12
        assert all(text == wanted[name] for name, text in found)
        turns = (Turn("user", PROMPT),)
        assert text_of(remote, basis, ANN, turns) == text_of(local, basis, ANN, turns)
        with pytest.raises(TrainerRefuses) as refused:
            text_of(remote, basis, ANN, "soup " * 500)
        assert refused.value.code == "prompt_too_long"
        pieces = remote.generate(
            GenerateRequest(basis.fingerprint, PROMPT, ANN), lambda: plora.dumps(basis), lambda _: adapter(basis)
        )
        next(pieces)
        pieces.close()
        assert text_of(remote, basis, None) == wanted[None]
        assert unreadable(Path(child.directory), b"soup", PROMPT.encode(), ring.transport_key())
    finally:
        child.stop()


def test_an_adapter_of_another_basis_is_refused_before_any_forward(base, basis):
    other = toys.loud(toys.basis_on(base.module, base.fingerprint, labels=()), seed=9)
    trainer = InProcessTrainer(lambda: Models(base), KEY)
    request = GenerateRequest(basis.fingerprint, PROMPT, ANN)
    with pytest.raises(TrainerRefuses) as refused:
        trainer.generate(request, lambda: plora.dumps(basis), lambda _: adapter(other))
    assert refused.value.code == "wrong_adapter"


def test_an_adapter_that_is_gone_meanwhile_is_told(base, basis):
    trainer = InProcessTrainer(lambda: Models(base), KEY)
    with pytest.raises(TrainerLost):
        trainer.generate(GenerateRequest(basis.fingerprint, PROMPT, ANN), lambda: plora.dumps(basis), lambda _: None)


def frames(*documents: bytes, head=None) -> tuple[object, list[bytes]]:
    head = head or head_of(Purpose.GENERATE)
    writer = FrameWriter(KEY, head)
    return head, [writer.frame(each, last=at == len(documents) - 1) for at, each in enumerate(documents)]


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_frames_come_whole_however_the_wire_cuts_them(size):
    head, sent = frames(b"one", b"", b"three")
    assert list(read_frames(KEY, head, in_pieces(b"".join(sent), size))) == [b"one", b"", b"three"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sent: sent[:-1],
        lambda sent: sent[1:],
        lambda sent: [sent[1], sent[0], sent[2]],
        lambda sent: [sent[0], sent[0], sent[2]],
        lambda sent: [*sent[:2], sent[2][:-1]],
        lambda sent: [sent[0][:4] + b"\x01" + sent[0][5:], *sent[1:]],
        lambda _: [b"\xff" * 9],
        lambda _: [],
    ],
)
def test_a_stream_that_was_cut_moved_or_ended_early_is_noticed(spoil):
    head, sent = frames(b"one", b"two", b"three")
    with pytest.raises(Unreadable):
        list(read_frames(KEY, head, [b"".join(spoil(sent))]))


def test_a_frame_of_another_answer_does_not_open():
    head, sent = frames(b"one")
    with pytest.raises(Unreadable):
        list(read_frames(KEY, head_of(Purpose.GENERATE), sent))
    assert list(read_frames(KEY, head, sent)) == [b"one"]
