"""A daemon of this process behind a port, for clients that speak real HTTP."""

import socket
import threading

import uvicorn

from tests.daemon.conftest import World


class listening:  # noqa: N801 - used as a `with`
    """The app of a world behind a port of this machine."""

    def __init__(self, world: World) -> None:
        self._stopping = world.service.parts.stopping
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen()  # who connects before the server runs waits for it
        config = uvicorn.Config(world.service.app, log_config=None, lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._stopping.set()  # as the daemon's own server does: whoever waits for changes goes home
        self._server.should_exit = True
        self._thread.join(20)
