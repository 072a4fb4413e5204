"""The whole main job on real processes: daemon, SQLite, Ray Serve, HTTP, the MiniLM; with a kill in the middle."""

import os
import random
import re
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import torch

import plora
from daemon.demo.crowd import Labelled, Participant
from daemon.demo.hosts import Host
from daemon.demo.measures import figures
from daemon.demo.process import daemon
from daemon.ray_child import session_directory
from tests.daemon.collector import Collector, Received, collecting

THINGS = ("lamp", "bag", "chair", "radio", "kettle", "jacket", "clock", "bottle", "mirror", "basket")
CANARY = "zqcanaryzq"
"""In every text and every user id: it must be found in no file."""

WHOLE = {
    *(f"plora-daemon {name}" for name in ("POST /v1/events", "record", "open", "run", "fit", "judge", "finish")),
    "plora-trainer trainer fit",
}
"""The spans of one trace from a request to a judged adapter."""

LIMIT_S = 150.0


def person(name: str, told: int) -> Participant:
    """Somebody who likes either everything tiny or everything huge."""
    draw = random.Random(name)
    wanted = ("tiny", "huge")[int(name.rsplit("-", 1)[1]) % 2]
    rows = [
        Labelled(f"a {size} {thing} {CANARY}", "like" if size == wanted else "dislike")
        for size in ("tiny", "huge")
        for thing in THINGS
    ]
    draw.shuffle(rows)
    return Participant(name, "newcomers", tuple(rows[:told]), tuple(rows[told:]))


def until(seen: Callable[[], bool]) -> bool:
    """Whether `seen` came true in time; looks again a few times a second."""
    pause = threading.Event()
    for _ in range(int(LIMIT_S / 0.25)):
        if seen():
            return True
        pause.wait(0.25)
    return False


def files_with(words: tuple[str, ...], folders: list[Path]) -> list[Path]:
    """Every file under `folders` that holds one of `words`, as text or as UTF-16."""
    needles = [form for word in words for form in (word.encode(), word.encode("utf-16-le"))]
    found = []
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        try:
            content = path.read_bytes()
        except OSError:
            continue  # a socket or a file that ended meanwhile
        if any(needle in content for needle in needles):
            found.append(path)
    return found


def trainer_pids(log: Path) -> list[int]:
    """The Ray children that the daemon started, in order."""
    return [int(pid) for pid in re.findall(r"action=trainer_started.*?pid=(\d+)", log.read_text())]


@pytest.mark.system
@pytest.mark.timeout(420)
def test_eight_users_get_their_adapters_although_ray_is_killed_half_way(tmp_path: Path) -> None:
    population = [person(f"{CANARY}-old-{number}", 12) for number in range(16)]
    newcomers = [person(f"{CANARY}-new-{number}", 13) for number in range(8)]
    choices = {"PLORA_TRIGGER_MIN_FRESH": "13", "PLORA_TRIGGER_MIN_TOTAL": "13", "PLORA_BASIS_EPOCHS": "30"}
    with collecting() as collector, daemon(tmp_path / "plora", choices | traced(collector), lambda _: None) as running:
        log = running.folder / "daemon.log"
        operator = httpx.Client(
            base_url=running.url, headers={"Authorization": f"Bearer {running.operator_token}"}, timeout=60
        )
        host = Host(running.url, running.host_token)

        host.introduce(population)
        operator.post("/v1/bases", json={"name": "system"}).raise_for_status()
        assert until(lambda: operator.get("/v1/bases").json()["bases"][0]["state"] == "ready")

        host.consent(newcomers)
        for one in newcomers[:4]:
            for number, row in enumerate(one.told):
                host.tell(one.id, number, row)
        os.kill(trainer_pids(log)[-1], signal.SIGKILL)
        for one in newcomers[4:]:
            for number, row in enumerate(one.told):
                host.tell(one.id, number, row)  # still 202: an event needs no Ray

        assert until(lambda: all(host.user(one.id)["serving"] for one in newcomers)), log.read_text()[-2_000:]
        assert len(trainer_pids(log)) >= 2, "the killed child was started again"

        for one in newcomers:
            own = [answer.probabilities for answer in host.ask([(one.id, row.text) for row in one.unseen])]
            generic = [answer.probabilities for answer in host.ask([("nobody", row.text) for row in one.unseen])]
            assert figures(one.unseen, own).nll < figures(one.unseen, generic).nll

        first = newcomers[0]
        trained = operator.get("/v1/bases").json()["bases"][0]
        fingerprint, calibration = trained["fingerprint"], plora.Calibration(**trained["report"]["calibration"])
        basis_file = host_get(running.url, running.host_token, f"/v1/bases/{fingerprint}")
        adapter_file = host_get(running.url, running.host_token, f"/v1/users/{first.id}/adapter")
        answers = host.ask([(first.id, row.text) for row in first.unseen])
        told = [answer.probabilities for answer in answers]
        assert_attaches_and_detaches(basis_file, adapter_file, first, (calibration, told))

        ray = [Path(session_directory(running.folder / "data"))]
        assert ray[0].is_dir()
        assert files_with((CANARY, running.host_token), [running.folder / "data", *ray]) == []
        assert CANARY not in log.read_text()
        assert CANARY not in httpx.get(f"{running.url}/metrics").text
        # the Trainer that was killed took its last half second of spans along, and may have fitted the first four
        assert_traces_lead_from_requests_to_adapters(collector, len(newcomers[4:]), running.host_token)

        forgotten = newcomers[1]
        receipt = httpx.delete(
            f"{running.url}/v1/users/{forgotten.id}", headers={"Authorization": f"Bearer {running.host_token}"}
        )
        assert receipt.status_code == 200
        assert receipt.json()["complete"]
        assert host.ask([(forgotten.id, "a tiny lamp")])[0].generic
        assert operator.get(f"/v1/users/{forgotten.id}").status_code == 404
        assert operator.get("/v1/audit/verify").json()["ok"]
        assert all(host.user(one.id)["serving"] for one in newcomers if one is not forgotten)
        host.close()
        operator.close()
    assert files_with((CANARY,), [running.folder / "data", *ray]) == []


def traced(collector: Collector) -> dict[str, str]:
    """Every request traced; and every other library of the daemon asked to send what it can, to the same place."""
    others = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "FASTAPI_OTEL_AUTO_CONFIGURE": "true"}
    return {"PLORA_OTLP_ENDPOINT": collector.url, **others}


def assert_traces_lead_from_requests_to_adapters(collector: Collector, runs: int, token: str) -> None:
    """As many runs in the trace of a request, with steps of daemon and Trainer; nothing of the user in them."""

    def whole(spans: list[Received]) -> list[str]:
        steps: dict[str, set[str]] = {}
        for each in spans:
            steps.setdefault(each.trace, set()).add(f"{each.process} {each.name}")
        return [trace for trace, names in steps.items() if names >= WHOLE]

    spans = collector.wait_for(lambda spans: len(whole(spans)) >= runs)
    assert collector.paths == {"/v1/traces"}
    assert len({each.instance for each in spans if each.process == "plora-daemon"}) == 1
    for hidden in (CANARY.encode(), token.encode(), b"tiny", b"dislike"):
        assert not any(hidden in body for body in collector.bodies)


def host_get(url: str, token: str, path: str) -> bytes:
    answer = httpx.get(url + path, headers={"Authorization": f"Bearer {token}"}, timeout=60)
    answer.raise_for_status()
    return answer.content


def assert_attaches_and_detaches(
    basis_file: bytes,
    adapter_file: bytes,
    user: Participant,
    answered: tuple[plora.Calibration, list[dict[str, float]]],
) -> None:
    """On a host's own model the files speak as they do in the daemon, and come off without a trace."""
    calibration, told = answered
    base = plora.load()
    basis, adapter = plora.loads_basis(basis_file), plora.loads_adapter(adapter_file)
    tokens = base.tokenizer([row.text for row in user.unseen], return_tensors="pt", padding=True)
    with torch.no_grad():
        before = base.module(**tokens).logits
        with plora.attached(base, basis) as live, live.use([adapter] * len(user.unseen)):
            chances = base.module(**tokens).logits.softmax(-1)
        after = base.module(**tokens).logits
    for row, found in zip(chances.tolist(), told, strict=True):
        assert calibration.of(dict(zip(basis.labels, row, strict=True))) == pytest.approx(found, abs=1e-5)
    assert torch.equal(before, after)
