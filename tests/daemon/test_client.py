"""plora.client against a real daemon: adapters held, revoked in time, and what happens while the daemon is away."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch

import plora
from plora.client import AsyncClient, Client, DaemonAway, Refused, Stale
from plora.lowrank import Layout
from tests.daemon.conftest import World, example
from tests.daemon.serving import listening
from tests.plora import toys

LABEL = toys.LABELS[0]


@dataclass
class Served:
    """A daemon behind a port, with a Basis and users with adapters."""

    url: str
    world: World
    basis: plora.Basis
    token: str

    def client(self, **options) -> Client:
        return Client(self.url, self.token, **options)

    def give(self, user: str, fill: float) -> None:
        """Another version for the user, current from now on."""
        adapter = plora.Adapter.of(self.basis, torch.full((8,), fill))
        self.world.give_adapter(user, plora.dumps(adapter), self.basis.fingerprint)

    def roll_back(self, user: str) -> None:
        """To the generic model."""
        parts = self.world.service.parts
        parts.store.rollback(self.world.internal_id(user), 0, "operator", parts.now())


def said(user: str) -> dict[str, object]:
    """An example with a label that the Basis knows."""
    return example(1, user, data={"text": "the soup", "label": LABEL})


@pytest.fixture
def served(world: World) -> Iterator[Served]:
    module = toys.bert()
    basis = toys.loud(toys.basis_on(module, plora.fingerprint(module)))
    world.give_basis(plora.dumps(basis), basis.fingerprint, basis.base)
    with listening(world) as url:
        made = Served(url, world, basis, world.token()["Authorization"].removeprefix("Bearer "))
        for number, user in enumerate(("ann", "bob")):
            world.post(said(user))
            made.give(user, number + 1.0)
        yield made


def until(holds, seconds: float = 10.0) -> float:
    """How long it took until it held."""
    begun = time.monotonic()
    while not holds():
        if time.monotonic() - begun > seconds:
            raise AssertionError("it never came to hold")
        time.sleep(0.005)
    return time.monotonic() - begun


def first(adapter) -> float | None:
    return None if adapter is None else float(adapter.vector[0])


def test_adapters_are_fetched_once_and_held(served):
    with served.client() as daemon:
        until(lambda: daemon._held.fresh)
        assert [first(each) for each in daemon.adapters(["ann", None, "bob", "nobody", "ann"])] == [1, None, 2, None, 1]
        fetched = daemon.fetch("ann")
        assert daemon.fetch("ann") is fetched
        assert daemon.basis().fingerprint == served.basis.fingerprint
        assert "ann" not in repr(daemon)
        assert served.token not in repr(daemon)


def test_a_low_rank_adapter_comes_as_one(served):
    layout = Layout.of(served.basis, 2, 4.0)
    made = layout.adapter(served.basis, torch.ones(layout.numbers), torch.zeros(8))
    served.world.give_adapter("bob", plora.dumps_low_rank(made), served.basis.fingerprint)
    with served.client() as daemon:
        assert isinstance(daemon.adapter("bob"), plora.LowRankAdapter)


def test_promotion_rollback_and_forgetting_show_within_two_seconds(served):
    took = []
    with served.client() as daemon:
        until(lambda: daemon._held.fresh)
        for turn in range(4):
            daemon.adapter("ann")
            served.give("ann", 10.0 + turn)
            took.append(until(lambda turn=turn: first(daemon.adapter("ann")) == 10.0 + turn))
            served.world.service.parts.store.rollback(
                served.world.internal_id("ann"), 0, "operator", served.world.service.parts.now()
            )
            took.append(until(lambda: daemon.adapter("ann") is None))
        daemon.forget("bob")
        took.append(until(lambda: daemon.adapter("bob") is None))
    assert max(took) < 2.0


def test_a_newcomer_without_an_adapter_gets_it_when_there_is_one(served):
    served.world.post(said("cleo"))
    with served.client() as daemon:
        until(lambda: daemon._held.fresh)
        assert daemon.adapter("cleo") is None
        served.give("cleo", 5.0)
        assert until(lambda: first(daemon.adapter("cleo")) == 5.0) < 2.0


def test_while_the_daemon_is_away_a_host_chooses(served):
    open_, closed = served.client(stale_s=0.3), served.client(stale_s=0.3, fail_open=False)
    for each in (open_, closed):
        assert first(each.adapter("ann")) == 1.0
    nowhere = socket.socket()
    nowhere.bind(("127.0.0.1", 0))
    for each in (open_, closed):
        each._http.base_url = f"http://127.0.0.1:{nowhere.getsockname()[1]}"
        until(lambda each=each: not each._held.fresh)
    assert open_.adapter("ann") is None
    with pytest.raises(Stale):
        closed.adapter("ann")
    with pytest.raises(DaemonAway):
        closed.adapter("bob")
    with pytest.raises(DaemonAway):
        open_.predict([("ann", "the soup")])
    nowhere.close()
    for each in (open_, closed):
        each.close()


def test_events_are_told_once_however_often_they_are_sent(served):
    with served.client() as daemon:
        assert daemon.tell("dan", "the soup", LABEL, id="1").outcome == "stored"
        assert daemon.tell("dan", "the soup", LABEL, id="1").outcome == "duplicate"
        assert daemon.consent("dan").accepted
        many = [daemon.tell("dan", f"text {at}", LABEL) for at in range(3)]
        assert all(each.accepted for each in many)
        wrong = daemon.tell("dan", "the soup", "no such label")
        assert (wrong.accepted, wrong.code) == (False, "unknown_label")


def test_a_refusal_says_what_to_do_and_nothing_that_was_sent(served):
    with Client(served.url, "plr_wrong", follow=False) as daemon, pytest.raises(Refused) as refused:
        daemon.predict([("ann", "a secret text")])
    assert (refused.value.status, refused.value.code) == (401, "wrong_token")
    assert "secret" not in str(refused.value)
    with served.client() as daemon, pytest.raises(Refused, match="no such user"):
        daemon.forget("nobody")


def test_a_client_of_an_event_loop_does_the_same(served):
    async def use() -> None:
        async with AsyncClient(served.url, served.token) as daemon:
            while not daemon._held.fresh:
                await asyncio.sleep(0.01)
            found = await daemon.adapters(["ann", None, "bob"])
            assert [first(each) for each in found] == [1, None, 2]
            served.give("ann", 7.0)
            begun = time.monotonic()
            while first(await daemon.adapter("ann")) != 7.0:
                await asyncio.sleep(0.005)
            assert time.monotonic() - begun < 2.0
            assert (await daemon.tell("dan", "the soup", LABEL)).accepted
            assert (await daemon.basis()).fingerprint == served.basis.fingerprint
            with pytest.raises(Refused):
                await daemon.forget("nobody")

    asyncio.run(use())


def test_many_threads_share_one_client(served):
    with served.client() as daemon:
        until(lambda: daemon._held.fresh)
        seen, wrong = [], []

        def ask(user: str, value: float) -> None:
            for _ in range(50):
                (seen if first(daemon.adapter(user)) == value else wrong).append(user)

        threads = [threading.Thread(target=ask, args=each) for each in (("ann", 1.0), ("bob", 2.0)) * 4]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert len(seen) == 400
    assert not wrong


def test_the_feed_tells_nobody_elses_moves(served):
    other = served.world.service.parts.store.ensure_tenant("other", served.world.service.parts.now()).id
    stranger = served.world.caller("adapters:read", tenant=other)
    told = served.world.client.get("/v1/changes?after=0", headers=stranger).json()
    assert told == {"changes": [], "next": 0}
    own = served.world.client.get("/v1/changes?after=0", headers=served.world.token()).json()
    assert [each["cause"] for each in own["changes"]] == ["promote", "promote"]
    assert served.world.client.get("/v1/changes?after=-1", headers=stranger).status_code == 422
