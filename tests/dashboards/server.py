"""A Prometheus of one's own: started on a free port, asked by HTTP, ended with its test."""

import json
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from daemon.ray_child import free_port
from tests import tools

START_S = 30.0


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server."""

    url: str

    def ask(self, path: str, **query: object) -> dict:
        """The data of an answer of its API."""
        text = urllib.parse.urlencode(query)
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{text}", timeout=60) as answer:  # noqa: S310 - loopback
            return json.load(answer)["data"]

    def over(self, expr: str, start: float, end: float, step: float) -> list[dict]:
        """Every series of `expr` between two times."""
        return self.ask("query_range", query=expr, start=start, end=end, step=step)["result"]

    def at(self, expr: str, when: float) -> list[dict]:
        """Every sample of `expr` at a time."""
        return self.ask("query", query=expr, time=when)["result"]


@contextmanager
def running(folder: Path, config: str = "") -> Iterator[Prometheus]:
    """Serve what `folder`/data holds."""
    port = free_port()
    (folder / "prometheus.yml").write_text(config or "global: {scrape_interval: 15s}\n")
    command = [
        str(tools.need("prometheus")),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--storage.tsdb.retention.time=60d",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("ab") as log:
        process = subprocess.Popen(command, env=tools.environment(), stdout=log, stderr=log)
    try:
        server = Prometheus(f"http://127.0.0.1:{port}")
        _wait(server, process, folder)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def promtool(*arguments: str | Path, stdin: Path = Path("/dev/null")) -> subprocess.CompletedProcess[str]:
    """Run promtool; its output as text."""
    command = [str(tools.need("promtool")), *map(str, arguments)]
    with stdin.open() as given:
        return subprocess.run(
            command, env=tools.environment(), stdin=given, capture_output=True, text=True, timeout=180, check=False
        )


def _wait(server: Prometheus, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise AssertionError((folder / "prometheus.log").read_text()[-2000:])
        try:
            urllib.request.urlopen(f"{server.url}/-/ready", timeout=5).read()  # noqa: S310 - loopback
        except (urllib.error.URLError, ConnectionError):
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        else:
            return
    raise AssertionError("Prometheus did not become ready")
