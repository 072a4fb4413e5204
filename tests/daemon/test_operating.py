"""Status, pause, drain, replay and explain over HTTP, in one process."""

import asyncio
import socket
import threading

import httpx
import pytest
import uvicorn

from daemon.switches import INGEST, TRAINING
from policies.trigger import Wait
from tests.daemon.conftest import NOW


def operator(world) -> dict[str, str]:
    return world.token("operator")


def test_status_tells_the_whole_and_this_daemon(world, event):
    world.post(event())
    told = world.client.get("/v1/status", headers=operator(world)).json()
    assert (told["ok"], told["users"], told["draining"], told["paused"]) == (True, 1, False, [])
    assert (told["schema_revision"], told["database"], told["causes"]) == ("0005", "sqlite", [])
    assert world.client.get("/v1/status", headers=world.token()).status_code == 403


def test_paused_ingest_is_answered_503_and_resumes(world, event):
    paused = world.client.post("/v1/switches/ingest", headers=operator(world)).json()
    assert [each["name"] for each in paused["paused"]] == ["ingest"]
    refused = world.post(event())
    assert (refused.status_code, refused.json()["code"]) == (503, "ingest_paused")
    assert int(refused.headers["retry-after"]) > 0
    assert world.client.get("/readyz").json() == {
        "ready": True,
        "causes": [{"code": "paused", "detail": "an operator has paused ingest", "blocking": False}],
    }
    assert world.counts() == 0
    resumed = world.client.delete("/v1/switches/ingest", headers=operator(world)).json()
    assert resumed == {"paused": [], "changed": True}
    assert world.post(event()).status_code == 202


def test_paused_training_records_and_opens_nothing(world, event):
    world.client.post("/v1/switches/training", headers=operator(world))
    for number in range(10):
        assert world.post(event(number)).status_code == 202
    world.give_basis(b"{}", "b" * 32)
    user, scheduler = world.internal_id("ann"), world.service.scheduler
    decision = scheduler.consider(user, NOW)
    assert isinstance(decision, Wait)
    assert decision.code == "paused"
    assert scheduler.tick(NOW) == 0
    assert world.service.parts.store.runs() == []
    world.client.delete("/v1/switches/training", headers=operator(world))
    assert scheduler.tick(NOW) == 1
    assert len(world.service.parts.store.runs()) == 1


def test_a_pause_can_be_seen_by_prometheus(world):
    def gauge() -> float | None:
        return world.service.parts.metrics.registry.get_sample_value("plora_paused", {"switch": "training"})

    assert gauge() == 0
    world.client.post("/v1/switches/training", headers=operator(world))
    assert gauge() == 1
    world.client.delete("/v1/switches/training", headers=operator(world))
    assert gauge() == 0


def test_another_daemon_learns_of_a_switch_by_looking(world):
    store, switches = world.service.parts.store, world.service.parts.steering.switches
    store.turn_switch(TRAINING, "another", NOW, off=True)
    assert not switches.paused(TRAINING)
    switches.look()
    assert switches.paused(TRAINING)
    assert not switches.paused(INGEST)


def test_who_may_not_steer_is_refused_and_unknown_switches_are_named(world):
    assert world.client.post("/v1/switches/ingest", headers=world.token()).status_code == 403
    assert world.client.post("/v1/drain", headers=world.token()).status_code == 403
    unknown = world.client.post("/v1/switches/lights", headers=operator(world))
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_switch")


def test_a_drained_daemon_is_not_ready_claims_nothing_and_answers(world, event):
    drained = world.client.post("/v1/drain", headers=operator(world)).json()
    assert drained["draining"] is True
    ready = world.client.get("/readyz")
    assert ready.status_code == 503
    assert [each["code"] for each in ready.json()["causes"]] == ["draining"]
    assert world.client.get("/livez").status_code == 200
    assert world.client.get("/startupz").status_code == 200
    assert world.post(event()).status_code == 202
    assert world.client.get("/v1/status", headers=operator(world)).json()["ok"] is False


def test_explain_says_what_is_missing(world, event):
    world.post(event())
    told = world.client.get("/v1/users/ann/explanation", headers=operator(world)).json()
    assert (told["next"]["decision"], told["next"]["code"]) == ("wait", "no_basis")
    world.give_basis(b"{}", "b" * 32)
    told = world.client.get("/v1/users/ann/explanation", headers=operator(world)).json()
    assert (told["examples"], told["fresh"], told["next"]["reason"]) == (1, 1, "1 of 8 fresh events")
    assert told["runs"] == []
    assert world.client.get("/v1/users/bob/explanation", headers=operator(world)).status_code == 404


def test_replay_makes_the_trigger_look_again(world, event):
    for number in range(8):
        world.post(event(number))
    world.give_basis(b"{}", "b" * 32)
    user, store = world.internal_id("ann"), world.service.parts.store
    world.give_adapter("ann", b"p" * 64, "b" * 32)
    answer = world.client.post("/v1/replay", json={"user": "ann"}, headers=operator(world))
    assert answer.json() == {"users": 1, "after": None}
    assert store.activity(user, NOW).fresh == 8
    since = world.client.post("/v1/replay", json={"since": "2020-01-01T00:00:00Z"}, headers=operator(world))
    assert since.json() == {"users": 1, "after": None}
    for wrong in ({}, {"user": "ann", "since": "2020-01-01T00:00:00Z"}):
        assert world.client.post("/v1/replay", json=wrong, headers=operator(world)).status_code == 422
    assert world.client.post("/v1/replay", json={"user": "bob"}, headers=operator(world)).status_code == 404


def test_probes_answer_however_much_is_asked(world):
    edge = world.service.app
    edge.in_flight = 10_000
    try:
        assert {world.client.get(path).status_code for path in ("/livez", "/startupz", "/readyz")} == {200}
        assert world.client.get("/v1/status", headers=operator(world)).status_code == 503
    finally:
        edge.in_flight = 0


def test_livez_and_startupz_need_no_store(world):
    with world.service.parts.store._database.write():  # every other write waits for this one
        assert [world.client.get(path).status_code for path in ("/livez", "/startupz")] == [200, 200]


def test_livez_fails_only_while_the_event_loop_is_wedged(world):
    config = uvicorn.Config(world.service.app, port=0, log_config=None, lifespan="off")
    server, loops, free = uvicorn.Server(config), [], threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        async def serve() -> None:
            loops.append(asyncio.get_running_loop())
            await server.serve(sockets=[listener])

        thread = threading.Thread(target=lambda: asyncio.run(serve()))
        thread.start()
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=10) as http:
                assert http.get("/livez").text == "ok\n"
                loops[0].call_soon_threadsafe(free.wait)
                with pytest.raises(httpx.ReadTimeout):
                    http.get("/livez", timeout=0.3)
                free.set()
                assert http.get("/livez").text == "ok\n"
        finally:
            free.set()
            server.should_exit = True
            thread.join()
