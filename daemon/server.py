"""`serve`: a daemon on a socket, from the first line it says to a clean end."""

import gc
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType

import uvicorn

from daemon import logs
from daemon.errors import DaemonError
from daemon.service import Service, assemble
from daemon.settings import Settings

DRAIN_S = 10
SWITCH_S = 0.001
"""A request crosses threads four times, and each time waits at most so long for the interpreter."""


class PortTaken(DaemonError):
    """Something else listens where the daemon should."""

    def __init__(self, host: str, port: int, problem: str) -> None:
        super().__init__(host, port, problem)
        self.host, self.port, self.problem = host, port, problem

    def __str__(self) -> str:
        return f"cannot listen on {self.host}:{self.port} ({self.problem}): stop what does, or set PLORA_PORT"


def serve(settings: Settings, *, as_json: bool = False) -> int:
    """Run until SIGTERM or SIGINT; the exit status."""
    logs.configure(settings.log_format)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold keys and content
    sys.setswitchinterval(SWITCH_S)
    listener = _listen(settings)
    try:
        with assemble(settings) as service:
            service.training.warm()
            gc.collect()
            gc.freeze()  # what was loaded so far stays: looking through it again took half of a cohort's preparation
            _run_server(service, listener, lambda: _announce(settings, listener, as_json=as_json))
    finally:
        listener.close()
    logs.write("stopped")
    return 0


def _listen(settings: Settings) -> socket.socket:
    """Bind before anything else starts, so that a taken port costs nothing."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        raise PortTaken(settings.host, settings.port, error.strerror or "unknown") from error
    return listener


class _Server(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


def _run_server(service: Service, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    config = uvicorn.Config(
        service.app,
        log_config=None,
        access_log=False,  # its lines hold paths, and paths hold user ids
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = _Server(config, on_ready)

    def stop(signum: int, _: FrameType | None) -> None:
        # uvicorn raises the signal again once it has drained; what is left is to leave the `with` above
        logs.write("stopping", {"signal": signum})
        server.should_exit = True

    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, stop)
    server.run(sockets=[listener])


def _announce(settings: Settings, listener: socket.socket, *, as_json: bool) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    logs.write("ready", {"url": url})
    facts = {
        "url": url,
        "docs": f"{url}/docs",
        "metrics": f"{url}/metrics",
        "keys": str(settings.keys_path),
        "data": str(settings.data_dir.resolve()),
    }
    text = json.dumps(facts) if as_json else "plora is ready\n" + "\n".join(f"  {k:8}{v}" for k, v in facts.items())
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
