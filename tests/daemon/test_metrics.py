"""/metrics: named as Prometheus wants it, zero before anything happens, and nobody in it."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon import metrics as metrics_module
from daemon.clock import monotonic
from daemon.ingest.figures import Figures
from daemon.metric_table import DRIFTS, EVENT_OUTCOMES, EVENT_TYPES, PAGE, ROWS, RUN_CODES, Kind
from daemon.metric_table import page as written
from daemon.metrics import Metrics
from daemon.stalls import Stalls
from daemon.standing import Standing
from policies import promotion
from policies.promotion import Part
from storage import EventKind, NewEvent
from tests.daemon.conftest import NOW

UNITS = ("seconds", "bytes", "nats", "total", "info", "users", "depth", "adapters", "letters", "progress", "up")
UNITS += ("epoch", "epochs", "second", "ratio", "paused", "pending", "entries", "replicas")
ABBREVIATED = re.compile(r"_(ms|sec|secs|mb|kb|pct|min|hrs?)(_|$)")
REQUIRED = (
    "plora_events_received_total",
    "plora_oldest_pending_event_timestamp_seconds",
    "plora_queue_depth",
    "plora_dead_letters",
    "plora_runs_total",
    "plora_fit_duration_seconds",
    "plora_cohort_users",
    "plora_gain_over_generic_nats",
    "plora_population_gain_nats",
    "plora_harmed_ratio",
    "plora_promotions_total",
    "plora_drift_total",
    "plora_moved_nats",
    "plora_versions_total",
    "plora_seal_total",
    "plora_unseal_total",
    "plora_fence_rejections_total",
    "plora_last_success_timestamp_seconds",
    "plora_event_to_adapter_seconds",
    "plora_http_requests_total",
    "plora_http_request_duration_seconds",
    "plora_trainer_restarts_total",
    "plora_trainer_up",
    "plora_predictions_total",
    "plora_schema_revision_info",
    "plora_build_info",
)


def families(page: str) -> dict[str, object]:
    return {family.name: family for family in text_string_to_metric_families(page)}


@pytest.fixture
def page(world) -> str:
    response = world.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    return response.text


def test_every_metric_is_named_and_described_as_prometheus_wants_it(page: str):
    for name, family in families(page).items():
        assert re.fullmatch(r"plora_[a-z][a-z0-9_]*", name)
        assert family.documentation.endswith(".") or ";" in family.documentation
        assert not ABBREVIATED.search(name)
        assert "_total" not in name.removesuffix("_total")
        assert name.rsplit("_", 1)[-1] in UNITS or family.type in {"counter", "info"}, name
    text = page.splitlines()
    assert all(line.split()[2].endswith("_total") for line in text if line.startswith("# TYPE") and "counter" in line)
    assert not any(re.search(r"_created[{ ]", line) for line in text)


def test_what_operators_need_is_there_before_anything_happened(page: str):
    for name in REQUIRED:
        assert f"# TYPE {name} " in page, name
    for outcome in EVENT_OUTCOMES:
        for kind in EVENT_TYPES:
            assert f'plora_events_received_total{{outcome="{outcome}",type="{kind}"}} 0.0' in page


def test_every_reason_of_a_rejection_is_there_before_it_happens(page: str):
    """A code that a policy can answer and that is not listed would be an absent series."""
    source = Path(promotion.__file__).read_text()
    codes = set(re.findall(r'"([a-z]+(?:_[a-z]+)+)"\)', source)) | set(re.findall(r'"([a-z_]+)", Part', source))
    codes -= {"min_gain", "max_moved", "least_sd"}
    assert codes == set(RUN_CODES["succeeded"])
    for code in codes:
        assert f'plora_runs_total{{code="{code}",outcome="succeeded"}} 0.0' in page
    for part in Part:
        assert f'plora_promotions_total{{part="{part.value}"}} 0.0' in page
    for state in DRIFTS:
        assert f'plora_drift_total{{state="{state}"}} 0.0' in page


def test_what_happens_is_counted_and_nobody_is_named(world, event):
    world.post(event(1, user="zanzibar-canary"))
    world.post(event(1, user="zanzibar-canary"))
    world.post(event(1, user="zanzibar-canary", type="unknown"))
    world.client.get("/v1/users/zanzibar-canary", headers=world.token())
    world.client.get("/zanzibar-canary")
    world.client.request("ZANZIBAR-CANARY", "/livez")
    page = world.client.get("/metrics").text
    assert 'plora_events_received_total{outcome="stored",type="example"} 1.0' in page
    assert 'plora_events_received_total{outcome="duplicate",type="example"} 1.0' in page
    assert 'plora_events_received_total{outcome="rejected",type="unknown"} 1.0' in page
    assert 'plora_http_requests_total{method="GET",route="/v1/users/{user}",status="200"} 1.0' in page
    assert 'plora_http_requests_total{method="POST",route="/v1/events",status="202"} 2.0' in page
    assert 'route="unmatched",status="404"' in page
    assert 'plora_seal_total{kind="event",outcome="ok"} 1.0' in page
    assert "plora_users 1.0" in page
    assert re.search(r"plora_oldest_pending_event_timestamp_seconds [1-9]", page)
    assert "canary" not in page.lower()
    assert world.internal_id("zanzibar-canary") not in page


def test_two_daemons_in_one_process_count_apart():
    one, two = Metrics(), Metrics()
    one.ticks.inc()
    assert b"plora_ticks_total 1.0" in one.expose()
    assert b"plora_ticks_total 0.0" in two.expose()


def test_every_label_has_few_values(page: str):
    for name, family in families(page).items():
        assert len(family.samples) < 100, name


def test_every_row_of_the_table_is_exported_by_a_daemon_or_a_consumer_and_nothing_else_is():
    registries = [Metrics().registry, Figures("nats").registry]
    exported = {family.name for registry in registries for family in registry.collect()}
    wanted = {f"plora_{row.name}" for row in ROWS if row.kind is not Kind.INFO}
    assert exported == wanted


def test_every_metric_of_a_daemon_is_set_somewhere():
    """A metric that nothing touches is a panel without data."""
    folder = Path(metrics_module.__file__).parent
    files = [path for path in folder.rglob("*.py") if path.name != "metric_table.py"]
    sources = "".join(path.read_text() for path in files)
    for name in (each for each in vars(Metrics()) if not each.startswith("_") and each != "registry"):
        assert re.search(rf"\.{name}(\.labels\(.*?\))?\.(inc|set|observe|time)\(", sources), name


def test_the_page_about_metrics_is_written_from_the_table():
    assert PAGE.read_text() == written()


def test_ten_thousand_users_add_no_series(world):
    world.client.get("/metrics")  # the first request has a series of its own
    before = len(world.client.get("/metrics").text.splitlines())
    store = world.service.parts.store
    events = [
        NewEvent("/many", f"e-{number}", f"user-{number}", EventKind.EXAMPLE, b'{"label":"1","text":"t"}', NOW)
        for number in range(10_000)
    ]
    for first in range(0, len(events), 1_000):
        store.record_events(world.tenant, events[first : first + 1_000], NOW, default_consent=True)
    after = world.client.get("/metrics").text
    assert "plora_users 10000.0" in after
    assert len(after.splitlines()) == before < 1_500


def test_counting_that_takes_long_is_done_beside_the_scrapes(world, tmp_path):
    clock = iter(range(1_000))
    metrics = Metrics()
    standing = Standing(world.service.parts.store, metrics, tmp_path, lambda: NOW, lambda: float(next(clock)))
    standing.look()  # by this clock it took a second
    first = metrics.standing_at._value.get()
    assert first
    metrics.standing_at.set(0)
    standing.look()
    assert not metrics.standing_at._value.get(), "a scrape right after waits for nothing"
    deadline = monotonic() + 10
    while not metrics.standing_at._value.get() and monotonic() < deadline:
        standing.look()
    assert metrics.standing_at._value.get() == first


def test_the_longest_pause_of_the_event_loop_stands_for_a_minute():
    metrics = Metrics()
    stalls = Stalls(metrics)
    for at in (0.0, 0.1, 0.5, 0.6):
        stalls.tick(at)
    assert metrics.loop_stall._value.get() == pytest.approx(0.3)
    stalls.tick(60.4)
    assert metrics.loop_stall._value.get() == pytest.approx(59.7)
    for at in range(61, 122):
        stalls.tick(float(at))
    assert metrics.loop_stall._value.get() == pytest.approx(0.9)
