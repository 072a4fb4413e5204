"""One trace, from a host's request to the adapter that its event led to, through two processes and the database."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from daemon import clock, telemetry
from daemon.settings import Settings
from daemon.telemetry_choices import OtlpChoices
from daemon.telemetry_context import Trace
from daemon.trainer_order import KEY_FILE, TrainerOrder
from policies.trigger import Limits
from storage import KeyRing
from tests.daemon.collector import Collector, Received, collecting

BATCH = {"Content-Type": "application/cloudevents-batch+json"}
ANN, BOB, CID = "ann@example.org", "bob@example.org", "cid@example.org"
CANARY = "zanzibar"
REQUEST = Trace("a" * 32, "a" * 16, sampled=True)
EVENT = Trace("b" * 32, "b" * 16, sampled=True)
PREDICTION = Trace("d" * 32, "d" * 16, sampled=True)
UNRECORDED = Trace("c" * 32, "c" * 16, sampled=False)
SENT = {ANN: REQUEST, BOB: EVENT, CID: UNRECORDED}
STEPS = {"record", "open", "run", "prepare", "fit", "trainer fit", "judge", "finish"}
ALL = {
    REQUEST: {"POST /v1/events", *STEPS},
    EVENT: STEPS,
    PREDICTION: {"POST /v1/predict", "trainer /predict"},
}
PARENTS = {
    "POST /v1/events": None,
    "record": "POST /v1/events",
    "open": "record",
    "run": "record",
    "prepare": "run",
    "fit": "run",
    "trainer fit": "fit",
    "judge": "run",
    "finish": "run",
}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector, telemetry.recording(OtlpChoices(collector.url), "daemon"):
        yield collector


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing.create(tmp_path / "keys")


@pytest.fixture
def replica(ring: KeyRing, tiny_folder: Path, collector: Collector) -> Iterator[str]:
    """The URL of a Trainer replica in another process, which was told of the collector."""
    order = TrainerOrder(model=str(tiny_folder), device="cpu", max_tokens=16, otlp=collector.url)
    program = Path(__file__).with_name("replica_process.py")
    environ = os.environ | {KEY_FILE: str(ring.transport_path), "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, str(program), json.dumps(asdict(order))]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()
            assert process.wait(20) == -signal.SIGTERM


@pytest.fixture
def settings(tmp_path: Path, replica: str) -> Settings:
    return Settings(
        data_dir=tmp_path / "data",
        keys_dir=tmp_path / "keys",
        trainer_url=replica,
        max_tokens=16,
        trigger=Limits(min_fresh=12, cooldown_s=0.0),
    )


def test_one_trace_leads_from_the_request_to_the_adapter_and_tells_nothing_of_the_user(
    world, event, basis, taste, collector
):
    world.give_basis(basis.content, basis.fingerprint, basis.base)

    def send(user: str, trace: Trace | None, own: Trace | None = None) -> None:
        extension = {} if own is None else {"traceparent": str(own)}
        examples = [
            event(at, user, data={"text": f"{text} {CANARY}", "label": label}, **extension)
            for at, (text, label) in enumerate(taste(0, 16))
        ]
        headers = world.token() | BATCH | ({} if trace is None else {"traceparent": str(trace)})
        assert world.client.post("/v1/events", json=examples, headers=headers).status_code == 202

    send(ANN, REQUEST)
    send(BOB, None, EVENT)
    send(CID, UNRECORDED)
    world.service.scheduler.tick(clock.now())
    assert world.service.scheduler.work_once(clock.now()) == 3
    asked = {"inputs": [{"text": f"the red shoe {CANARY}", "user": ANN}]}
    headers = world.token() | {"traceparent": str(PREDICTION)}
    assert world.client.post("/v1/predict", json=asked, headers=headers).status_code == 200
    spans = collector.wait_for(has_all)

    ann, bob = of(spans, REQUEST), of(spans, EVENT)
    assert (set(ann), set(bob)) == (ALL[REQUEST], ALL[EVENT])
    assert {each.process for each in ann.values()} == {"plora-daemon", "plora-trainer"}
    assert len({each.instance for each in ann.values()}) == 2
    parents = {name: next((each.name for each in ann.values() if each.id == ann[name].parent), None) for name in ann}
    assert parents == PARENTS
    assert ann["POST /v1/events"].parent == REQUEST.span_id
    assert bob["record"].parent == EVENT.span_id
    assert bob["record"].links != ()
    assert {each.facts["enduser.pseudo.id"] for each in (ann["run"], ann["judge"])} == {world.internal_id(ANN)}
    assert (ann["run"].facts["plora.run.outcome"], ann["fit"].facts["plora.cohort.users"]) == ("succeeded", 3)
    assert (ann["finish"].kind, ann["finish"].facts["db.system.name"]) == ("CLIENT", "sqlite")
    assert not [each for each in spans if each.trace == UNRECORDED.trace_id]
    assert of(spans, PREDICTION)["trainer /predict"].parent == of(spans, PREDICTION)["POST /v1/predict"].id

    ring = world.service.keyring
    secrets = [ring.transport_key(), ring.transport_key().hex().encode(), world.token()["Authorization"].encode()[7:]]
    for hidden in (CANARY.encode(), b"example.org", b"red shoe", *secrets):
        assert not any(hidden in body for body in collector.bodies)
    told = [json.loads(line) for line in world.log.getvalue().splitlines()]
    runs = {each["user"]: each["trace"] for each in told if each["action"] == "run"}
    assert runs == {world.internal_id(user): trace.trace_id for user, trace in SENT.items()}
    assert CANARY not in world.log.getvalue()
    assert "example.org" not in world.log.getvalue()


def has_all(spans: list[Received]) -> bool:
    return all(set(of(spans, trace)) >= names for trace, names in ALL.items())


def of(spans: list[Received], trace: Trace) -> dict[str, Received]:
    """Those of one trace, by name."""
    return {each.name: each for each in spans if each.trace == trace.trace_id}
