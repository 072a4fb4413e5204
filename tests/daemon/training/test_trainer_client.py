"""What asking a Trainer can come to, over real HTTP."""

import pickle
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from daemon.http_trainer import HttpTrainer
from daemon.in_process_trainer import InProcessTrainer
from daemon.messages import FitRequest
from daemon.predict_messages import Named, PredictAnswer, PredictRequest, Row
from daemon.trainer_errors import TrainerError, TrainerFailed, TrainerLost, TrainerRefused, TrainerUnavailable
from daemon.work import Models, work
from storage import Unreadable

KEY = bytes(range(32))
Answering = Callable[[bytes], tuple[int, bytes] | None]


class Front:
    """A tiny HTTP server that answers as it is told; None hangs up."""

    def __init__(self, answer: Answering) -> None:
        self.paths: list[str] = []
        self.bodies: list[bytes] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.paths.append(self.path)
                outer.bodies.append(body)
                told = answer(body)
                if told is None:
                    self.close_connection = True
                    return
                self.send_response(told[0])
                self.send_header("Content-Length", str(len(told[1])))
                self.end_headers()
                self.wfile.write(told[1])

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def front() -> Iterator[Callable[[Answering], Front]]:
    opened: list[Front] = []

    def start(answer: Answering) -> Front:
        opened.append(Front(answer))
        return opened[-1]

    yield start
    for each in opened:
        each.close()


def client(url: str | None, timeout_s: float = 30.0) -> HttpTrainer:
    return HttpTrainer(lambda: url, KEY, timeout_s=timeout_s)


def request(basis: str = "f" * 64) -> PredictRequest:
    return PredictRequest(basis, (Row("the red shoe"),))


def no_basis() -> bytes:
    raise AssertionError("the basis was not asked for")


def no_adapter(name: Named) -> bytes | None:
    raise AssertionError("no adapter was named")


def test_over_http_and_in_process_the_answer_is_the_same(front, models, basis):
    served = front(lambda body: (200, work(Models(models.base), KEY, body)))
    remote = client(served.url).predict(request(basis.fingerprint), lambda: basis.content, no_adapter)
    local = InProcessTrainer(lambda: models, KEY).predict(request(basis.fingerprint), lambda: basis.content, no_adapter)
    assert isinstance(remote, PredictAnswer)
    assert remote == local
    assert served.paths == ["/predict", "/predict"]  # first without the basis, then with it
    assert len(served.bodies[1]) > len(served.bodies[0]) + len(basis.content)
    assert not any(b"red shoe" in body for body in served.bodies)


def test_a_trainer_that_holds_the_basis_is_asked_once(front, models, basis):
    models.give(basis.content)
    served = front(lambda body: (200, work(models, KEY, body)))
    client(served.url).predict(request(basis.fingerprint), no_basis, no_adapter)
    assert len(served.paths) == 1


def test_without_an_address_or_a_listener_no_trainer_is_available(front):
    with pytest.raises(TrainerUnavailable):
        client(None).predict(request(), no_basis, no_adapter)
    gone = front(lambda _: None)
    gone.close()
    with pytest.raises(TrainerUnavailable):
        client(gone.url).predict(request(), no_basis, no_adapter)
    assert not client(None).ready()


@pytest.mark.parametrize(("status", "error"), [(503, TrainerUnavailable), (500, TrainerLost), (400, TrainerRefused)])
def test_each_status_is_its_own_error(front, status, error):
    with pytest.raises(error):
        client(front(lambda _: (status, b"canary")).url).predict(request(), no_basis, no_adapter)


def test_a_trainer_that_hangs_up_is_lost(front):
    with pytest.raises(TrainerLost):
        client(front(lambda _: None).url).predict(request(), no_basis, no_adapter)


def test_a_trainer_that_is_silent_for_too_long_is_lost(front):
    silent = threading.Event()
    served = front(lambda _: silent.wait(30) and None)
    with pytest.raises(TrainerLost):
        client(served.url, timeout_s=0.2).predict(request(), no_basis, no_adapter)
    silent.set()


def test_another_key_is_refused_on_both_sides(front, models):
    def answer(body: bytes) -> tuple[int, bytes]:
        try:
            return 200, work(models, bytes(32), body)
        except Unreadable:
            return 400, b"{}"

    with pytest.raises(TrainerRefused):
        client(front(answer).url).predict(request(), no_basis, no_adapter)
    with pytest.raises(TrainerRefused):
        client(front(lambda _: (200, b"not sealed by anyone")).url).predict(request(), no_basis, no_adapter)


def test_an_old_answer_is_not_taken_for_a_new_one(front, models, basis):
    models.give(basis.content)
    kept: list[bytes] = []

    def answer(body: bytes) -> tuple[int, bytes]:
        kept.append(work(models, KEY, body))
        return 200, kept[0]

    trainer = client(front(answer).url)
    trainer.predict(request(basis.fingerprint), no_basis, no_adapter)
    with pytest.raises(TrainerRefused):
        trainer.predict(request(basis.fingerprint), no_basis, no_adapter)


def test_a_failure_inside_comes_out_by_its_name(models, basis):
    trainer = InProcessTrainer(lambda: models, KEY)
    with pytest.raises(TrainerFailed) as failed:
        trainer.fit(FitRequest("0" * 64, ()), lambda: b"damaged")
    assert failed.value.code == "MalformedBasis"


@pytest.mark.parametrize("error", [TrainerUnavailable(), TrainerLost(), TrainerRefused(), TrainerFailed("Name")])
def test_every_error_survives_pickling_and_says_what_to_do(error: TrainerError):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own value
    assert (type(copy), copy.code, str(copy)) == (type(error), error.code, str(error))
