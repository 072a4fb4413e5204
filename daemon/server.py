"""`serve`: a daemon on a socket, from the first line it says to a clean end.

Theory of the end. At SIGTERM the daemon says that it is not ready and sends new writes away, for PLORA_LINGER_S, so
that who balances load can hear of it. Then it stops listening, lets what was begun finish for `DRAIN_S`, gives runs at
work a moment, puts the rest back into the queue, and ends its Trainer. Whatever hangs, it is gone after `OVERDUE_S`:
nothing that was acknowledged depends on a clean end.
"""

import gc
import json
import logging
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from threading import Event, Timer
from types import FrameType

import uvicorn

from daemon import logs, telemetry
from daemon.api.parts import Cause
from daemon.clock import monotonic
from daemon.errors import DaemonError
from daemon.heads import BoundedHeads
from daemon.service import Service, assemble
from daemon.settings import Settings
from daemon.stalls import Stalls
from daemon.waiting import Waiting
from storage import SchemaBehind, StoreAway

DRAIN_S = 5
OVERDUE_S = 28.0
WAIT_S = 1.0
STOPPING = (signal.SIGTERM, signal.SIGINT)
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
    """Run until SIGTERM or SIGINT; the exit status. 1 after a failed sync, which only a new process recovers from."""
    logs.configure(settings.log_format)
    logs.guard()
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would hold keys and content
    sys.setswitchinterval(SWITCH_S)
    for each in STOPPING:
        signal.signal(each, _leave_early)
    listener = _listen(settings)
    try:
        with (
            Waiting(listener) as waiting,
            _assembled(settings, waiting) as service,
            telemetry.recording(settings.otlp, "daemon", service.count_spans),
        ):
            service.training.warm()
            gc.collect()
            gc.freeze()  # what was loaded so far stays: looking through it again took half of a cohort's preparation
            waiting.stop()
            _run_server(service, listener, lambda: _announce(settings, listener, as_json=as_json))
            broken = service.parts.store.failed
    finally:
        listener.close()
    logs.write("stopped")
    return int(broken)


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


def _assembled(settings: Settings, waiting: Waiting) -> Service:
    """The daemon, once its database has the schema; who may not migrate it waits for who does."""
    while True:
        try:
            return assemble(settings)
        except (SchemaBehind, StoreAway) as problem:
            if settings.database_migrate == "auto":
                raise
            behind = isinstance(problem, SchemaBehind)
            cause = Cause("schema_behind" if behind else "storage_down", str(problem), blocking=True)
            if cause != waiting.cause:
                logs.write_error("waiting", problem)
            waiting.cause = cause
        Event().wait(WAIT_S)


def _leave_early(signum: int, _: FrameType | None) -> None:
    """While nothing is served yet."""
    logs.write("stopping", {"signal": signum})
    raise SystemExit(0)


def _be_gone() -> None:
    logs.write("stop_overdue")
    os._exit(1)


class _Server(uvicorn.Server):
    """Says when it listens, and goes on answering for a moment after it was told to stop."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], service: Service) -> None:
        super().__init__(config)
        self._on_ready, self._store = on_ready, service.parts.store
        self._stopping, self._linger_s = service.parts.stopping, service.parts.settings.linger_s
        self._leaves_at = math.inf
        self._stalls = Stalls(service.parts.metrics)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """A second signal ends the lingering."""
        again = self._stopping.is_set()
        self._leaves_at = monotonic() + (0.0 if again else self._linger_s)
        if not again:
            self._stopping.set()
            overdue = Timer(OVERDUE_S, _be_gone)
            overdue.daemon = True
            overdue.start()
            logs.write("stopping", {"signal": sig})

    async def on_tick(self, counter: int) -> bool:
        self._stalls.tick(monotonic())
        if self._store.failed and not self._stopping.is_set():
            logs.write("disk_failed", level=logging.ERROR)
            self.handle_exit(signal.SIGTERM, None)
        if monotonic() >= self._leaves_at:
            self.should_exit = True
        return await super().on_tick(counter)


def _run_server(service: Service, listener: socket.socket, on_ready: Callable[[], None]) -> None:
    config = uvicorn.Config(
        service.app,
        log_config=None,
        access_log=False,  # its lines hold paths, and paths hold user ids
        server_header=False,
        lifespan="off",
        http=BoundedHeads,
        ws="none",
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = _Server(config, on_ready, service)
    for each in STOPPING:
        signal.signal(each, server.handle_exit)  # also once the server has ended, while the rest does
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
