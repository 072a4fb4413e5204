"""W3C trace context, spans and their allow-list, and the queue in front of the collector."""

import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon import telemetry
from daemon.settings import InvalidSetting, load
from daemon.telemetry_choices import OtlpChoices
from daemon.telemetry_context import Trace, begun, carried, current, following, parse
from daemon.telemetry_export import Outbox
from tests.daemon.collector import Collector, collecting

CANARY = "zanzibar canary"
USER = "0123456789abcdef" * 2
TRACE = Trace("a" * 32, "b" * 16, sampled=True)
HEX = st.integers(1, (1 << 128) - 1)


@given(HEX, HEX, st.booleans())
def test_a_trace_is_read_as_it_was_written(trace: int, span: int, sampled: bool):
    written = Trace(f"{trace:032x}", f"{span >> 64 or 1:016x}", sampled)
    assert parse(str(written)) == written
    assert len(str(written)) == 55


@given(
    st.text()
    | st.none()
    | st.integers()
    | st.from_regex(r"[0-9a-fA-F]{2}-[0-9a-f]{32}-[0-9a-f]{16}-..", fullmatch=True)
)
def test_what_is_no_traceparent_is_no_trace_and_never_an_error(text: object):
    found = parse(text)
    assert found is None or (found.trace_id in text and found.span_id in text)


@pytest.mark.parametrize(
    "text",
    [
        f"00-{'0' * 32}-{'b' * 16}-01",
        f"00-{'a' * 32}-{'0' * 16}-01",
        f"ff-{'a' * 32}-{'b' * 16}-01",
        f"00-{'A' * 32}-{'b' * 16}-01",
        f"00-{'a' * 32}-{'b' * 16}-01-more",
        f"00-{'a' * 32}-{'b' * 16}",
        f" 00-{'a' * 32}-{'b' * 16}-01",
        f"00-{'a' * 32}-{'b' * 16}-01\n",
    ],
)
def test_w3c_says_what_is_to_be_ignored(text: str):
    assert parse(text) is None


def test_a_later_version_may_say_more():
    assert parse(f"01-{'a' * 32}-{'b' * 16}-03-more") == TRACE


def test_so_many_traces_are_recorded_as_asked():
    assert not any(begun(0.0).sampled for _ in range(100))
    assert all(begun(1.0).sampled for _ in range(100))
    assert 350 < sum(begun(0.5).sampled for _ in range(1000)) < 650
    assert len({begun(1.0).trace_id for _ in range(1000)}) == 1000


def test_a_trace_is_followed_inside_the_with_and_carried_only_if_recorded():
    assert current() is None
    with following(TRACE):
        assert (current(), carried()) == (TRACE, {"traceparent": str(TRACE)})
        with following(Trace("a" * 32, "b" * 16, sampled=False)):
            assert carried() == {}
    assert current() is None


def test_without_a_collector_the_trace_is_handed_on_as_it_came():
    span = telemetry.begin("x", TRACE)
    assert (span.trace, telemetry.exemplar(TRACE)) == (TRACE, None)
    span.end({"run": 1})
    assert not telemetry.begin_trace("x").trace.sampled


def test_a_daemon_without_a_collector_does_not_load_opentelemetry():
    program = "import sys, daemon.server; print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    assert told.stdout == "[]\n"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector, telemetry.recording(OtlpChoices(collector.url), "daemon"):
        yield collector


def test_a_span_is_what_was_said_of_it_and_nothing_more(collector: Collector):
    outer = telemetry.begin_trace("outer", kind=telemetry.Kind.SERVER)
    with following(outer.trace), telemetry.step("inner", facts={"run": 7, "user": USER, "text": CANARY, "code": "ok"}):
        telemetry.begin("linked", TRACE, link=current()).end({"user": CANARY, "database": "sqlite"})
    outer.end({"route": "/v1/users/{user}", "status": 200})
    outer.end()
    found = {each.name: each for each in collector.wait_for(lambda spans: len(spans) == 3)}
    outer_span, inner, linked = found["outer"], found["inner"], found["linked"]
    assert (outer_span.trace, outer_span.parent, outer_span.kind) == (outer.trace.trace_id, "", "SERVER")
    assert outer_span.facts == {"http.route": "/v1/users/{user}", "http.response.status_code": 200}
    assert (inner.trace, inner.parent, inner.kind) == (outer_span.trace, outer_span.id, "INTERNAL")
    assert inner.facts == {"plora.run": 7, "enduser.pseudo.id": USER, "plora.code": "ok"}
    assert (linked.trace, linked.parent, linked.links) == (TRACE.trace_id, TRACE.span_id, (inner.id,))
    assert linked.facts == {"db.system.name": "sqlite"}
    assert {each.process for each in found.values()} == {"plora-daemon"}
    assert collector.paths == {"/v1/traces"}
    assert not any(b"canary" in body for body in collector.bodies)


def test_an_error_is_its_type(collector: Collector):
    with pytest.raises(ValueError, match=CANARY), following(TRACE), telemetry.step("broken"):
        raise ValueError(CANARY)
    (span,) = collector.wait_for(lambda spans: len(spans) == 1)
    assert (span.failed, span.facts) == (True, {"error.type": "ValueError"})
    assert b"canary" not in collector.bodies[0]


def test_a_trace_that_its_caller_does_not_record_is_not_recorded(collector: Collector):
    unrecorded = Trace("c" * 32, "d" * 16, sampled=False)
    telemetry.begin("x", unrecorded).end()
    telemetry.begin("y", TRACE).end()
    assert [each.name for each in collector.wait_for(lambda spans: len(spans) == 1)] == ["y"]
    assert telemetry.exemplar(unrecorded) is None
    assert telemetry.exemplar(TRACE) == {"trace_id": TRACE.trace_id}


def test_whoever_ends_a_span_waits_for_nobody_and_what_has_no_room_is_dropped():
    counts, sent, go = Counter(), [], threading.Event()

    def send(batch: list[int]) -> bool:
        go.wait(20)
        sent.extend(batch)
        return True

    outbox = Outbox(send, most=600, count=lambda outcome, count: counts.update({outcome: count}), abandon=go.set)
    for number in range(2000):
        outbox.add(number)
    assert counts["dropped"] >= 2000 - 600 - 512
    go.set()
    outbox.stop(20)
    assert sent == list(range(len(sent)))
    assert len(sent) == counts["sent"] == 2000 - counts["dropped"]
    outbox.add(1)
    assert len(sent) == counts["sent"]


def test_a_collector_that_fails_costs_spans_and_nothing_else():
    counts = Counter()
    with collecting() as collector:
        collector.status = 400
        choices = OtlpChoices(collector.url)
        with telemetry.recording(choices, "daemon", lambda outcome, count: counts.update({outcome: count})):
            telemetry.begin("lost", TRACE).end()
            collector.wait_asked(1)
            collector.status = 200
            telemetry.begin("kept", TRACE).end()
            collector.wait_for(lambda spans: len(spans) == 1)
    assert (counts["failed"], counts["sent"], counts["dropped"]) == (1, 1, 0)


def test_a_collector_that_is_gone_is_not_waited_for_at_the_end():
    counts = Counter()
    choices = OtlpChoices("http://127.0.0.1:9", timeout_s=60.0)
    with telemetry.recording(choices, "daemon", lambda outcome, count: counts.update({outcome: count})):
        for _ in range(1000):
            telemetry.begin("lost", TRACE).end()
    assert counts["failed"] + counts["dropped"] >= 1000 - 512
    assert counts["sent"] == 0


def test_a_request_is_told_by_its_template_and_probes_are_not_told(world, collector: Collector):
    host = world.token() | {"traceparent": str(TRACE)}
    asked = [f"/v1/users/{CANARY}", f"/v1/users/{CANARY}/adapter", f"/v1/{CANARY}", "/livez", "/metrics"]
    statuses = [world.client.get(path, headers=host).status_code for path in asked]
    assert statuses == [404, 404, 404, 200, 200]
    spans = collector.wait_for(lambda spans: len(spans) >= 2)
    assert [each.name for each in spans] == ["GET /v1/users/{user}", "GET /v1/users/{user}/adapter"]
    assert {each.facts["http.response.status_code"] for each in spans} == {404}
    assert not any(each.failed for each in spans)
    assert not any(b"canary" in body for body in collector.bodies)


def series(page: str) -> set[str]:
    """Names and labels. In OpenMetrics the numbers of buckets are always floats."""
    lines = [line for line in page.splitlines() if line and not line.startswith("#")]
    return {line.partition(" # ")[0].rpartition(" ")[0] for line in lines}


def test_exemplars_lead_to_recorded_traces_for_who_asks_for_openmetrics(world, collector: Collector):
    for trace in (TRACE, Trace("c" * 32, "d" * 16, sampled=False)):
        world.client.get("/v1/users/ann", headers=world.token() | {"traceparent": str(trace)})
    asked = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.3"}
    plain, page = world.client.get("/metrics"), world.client.get("/metrics", headers=asked)
    assert page.headers["content-type"].startswith("application/openmetrics-text")
    assert plain.headers["content-type"].startswith("text/plain")
    found = [exemplar for line in page.text.splitlines() if (exemplar := line.partition(" # ")[2])]
    assert [exemplar.partition("}")[0] for exemplar in found] == [f'{{trace_id="{TRACE.trace_id}"']
    assert " # {" not in plain.text
    assert series(page.text) >= series(plain.text)


def test_a_collector_that_hangs_delays_no_event(world, event):
    counts = Counter()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        choices = OtlpChoices(f"http://127.0.0.1:{silent.getsockname()[1]}", queue=16, timeout_s=60.0)
        with telemetry.recording(choices, "daemon", lambda outcome, count: counts.update({outcome: count})):
            statuses = [world.post(event(number)).status_code for number in range(100)]
    assert statuses == [202] * 100
    assert counts["sent"] == 0
    assert counts["dropped"] >= 200 - 16 - 16


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PLORA_OTLP_ENDPOINT", "collector:4318"),
        ("PLORA_OTLP_ENDPOINT", "http://user:secret@collector:4318"),
        ("PLORA_OTLP_ENDPOINT", "http://169.254.169.254/"),
        ("PLORA_OTLP_SAMPLE", "1.1"),
        ("PLORA_OTLP_SAMPLE", "nan"),
        ("PLORA_OTLP_QUEUE", "0"),
        ("PLORA_OTLP_TIMEOUT_S", "0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(name: str, value: str):
    with pytest.raises(InvalidSetting, match=name):
        load({name: value})
