"""An adapter is held for as long as somebody names it, and is zeroed when it goes."""

import threading
import time
from collections.abc import Callable

import pytest
import torch

import plora
from daemon.adapter_cache import LEASE_S, AdapterCache
from daemon.named import RECENT_S, Recent
from daemon.predict_messages import Named

LIMIT_S, LEASE = 10.0, 0.12


def adapter() -> plora.Adapter:
    return plora.Adapter("b" * 64, "c" * 64, torch.ones(4))


def name(user: str, version: int = 1) -> Named:
    return Named(user, version, f"{user}-{version}")


def until(seen: Callable[[], bool]) -> float:
    """After how many seconds `seen` came true."""
    begun, pause = time.monotonic(), threading.Event()
    while not seen():
        assert time.monotonic() - begun < LIMIT_S
        pause.wait(0.01)
    return time.monotonic() - begun


def test_what_nobody_names_any_more_is_gone_and_zeroed():
    cache, held = AdapterCache(LEASE), adapter()
    cache.put(name("ann"), held)
    assert cache.missing([name("ann")]) == ()
    until(lambda: len(cache) == 0)
    assert not held.vector.any()
    assert cache.missing([name("ann")]) == ("ann-1",)


def test_a_lease_and_its_sweep_end_within_two_seconds():
    cache = AdapterCache()
    cache.put(name("ann"), adapter())
    assert LEASE_S - 0.1 <= until(lambda: len(cache) == 0) < 2.0
    assert RECENT_S < LEASE_S, "a daemon sends the bytes again before the lease can have ended"


def test_whoever_is_named_stays_and_the_others_go():
    cache, kept = AdapterCache(LEASE), adapter()
    cache.put(name("ann"), kept)
    cache.put(name("bob"), adapter())

    def bob_is_gone() -> bool:
        assert cache.missing([name("ann")]) == ()
        return len(cache) == 1

    until(bob_is_gone)
    assert kept.vector.all()


def test_what_is_in_use_is_neither_dropped_nor_zeroed():
    cache, held = AdapterCache(LEASE, keep=2), adapter()
    cache.put(name("ann"), held)
    with cache.using([name("ann"), name("nobody")]) as worn:
        assert list(worn) == [name("ann")]
        for user in ("bob", "cyd"):  # one too many: somebody must go, and it is not ann
            cache.put(name(user), adapter())
        assert cache.missing([name("cyd"), name("bob")]) == ("bob-1",)
        until(lambda: len(cache) == 1)  # cyd's lease is over, and so is ann's, which began before it
        assert held.vector.all()
    until(lambda: len(cache) == 0)
    assert not held.vector.any()


def test_another_version_or_digest_is_another_adapter():
    cache = AdapterCache(LIMIT_S)
    cache.put(name("ann"), adapter())
    others = [Named("ann", 2, "ann-2"), Named("ann", 1, "else"), Named("bob", 1, "bob-1")]
    assert cache.missing(others) == ("ann-2", "else", "bob-1")


def test_of_too_many_the_one_named_longest_ago_goes():
    cache = AdapterCache(LIMIT_S, keep=2)
    for user in ("ann", "bob"):
        cache.put(name(user), adapter())
    cache.missing([name("ann")])
    cache.put(name("cyd"), adapter())
    assert cache.missing([name("ann"), name("bob"), name("cyd")]) == ("bob-1",)


def test_an_adapter_that_is_held_already_is_not_replaced():
    cache, first = AdapterCache(LIMIT_S), adapter()
    cache.put(name("ann"), first)
    cache.put(name("ann"), adapter())
    with cache.using([name("ann")]) as worn:
        assert worn[name("ann")] is first


@pytest.mark.parametrize("keep", [100, 1])
def test_a_daemon_sends_bytes_to_strangers_only(keep):
    recent = Recent(recent_s=LIMIT_S, keep=keep)
    assert recent.strangers([name("ann")]) == [name("ann")]
    assert recent.strangers([name("ann"), name("bob")]) == [name("bob")]
    assert recent.strangers([name("ann")]) == ([] if keep == 100 else [name("ann")])
    assert Recent(recent_s=0.0).strangers([name("ann")]) == [name("ann")]
