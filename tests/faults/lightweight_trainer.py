"""A trainer behind HTTP that speaks the sealed protocol and fits nothing: its adapters are digests of the examples."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from daemon.messages import FitAnswer, FitRequest, MemberFitted, Offer, decode_request, encode_answer
from daemon.transport import Body, seal_answer, unseal_request
from tests.faults.adapters import BASE, adapter_of, scores


@contextmanager
def lightweight_trainer(key: bytes, fit_s: float = 0.0) -> Iterator[str]:
    """Its URL. Every fit takes `fit_s`."""
    pause = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            envelope = self.rfile.read(int(self.headers["Content-Length"]))
            head, body = unseal_request(key, envelope)
            request = decode_request(body.document)
            pause.wait(fit_s)
            sealed = seal_answer(key, head, Body(*encode_answer(fit(request))))
            self.send_response(200)
            self.send_header("Content-Length", str(len(sealed)))
            self.end_headers()
            self.wfile.write(sealed)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # daemons die while they are answered
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        pause.set()
        server.shutdown()
        server.server_close()


def fit(request: FitRequest) -> FitAnswer:
    """An adapter for everyone."""
    outcomes = tuple(
        MemberFitted(member.run, BASE, Offer(adapter_of(request.basis, member.learn), scores(), 0.1, 0.1))
        for member in request.members
    )
    return FitAnswer(outcomes, 0.0, 0.0)
