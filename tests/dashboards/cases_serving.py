"""Cases of the alerts on what hosts see, and of the objectives."""

from tests.dashboards.cases import BUILD, fires, silent

_EVENTS = 'plora_http_requests_total{method="POST",route="/v1/events",status="%s"}'
_ADAPTER = 'plora_http_requests_total{method="GET",route="/v1/users/{user}/adapter",status="%s"}'
_WITHIN, _ALL = 'plora_event_to_adapter_seconds_bucket{le="40.0"}', "plora_event_to_adapter_seconds_count"
_STORED, _FAILED = 'plora_events_received_total{outcome="stored"}', 'plora_events_received_total{outcome="failed"}'


def _asked(route: str, good: int, bad: int) -> dict[str, str]:
    return {route % "200": f"0+{good}x", route % "503": f"0+{bad}x", BUILD: "1x"}


def _fresh(within: int, late: int) -> dict[str, str]:
    return {_WITHIN: f"0+{within}x", _ALL: f"0+{within + late}x", BUILD: "1x"}


CASES = (
    fires("PloraIngestBudgetBurnsFast", _asked(_EVENTS, 980, 20), 40, "2m", slo="ingest"),
    silent("PloraIngestBudgetBurnsFast", _asked(_EVENTS, 997, 3), 40, "2m"),
    silent("PloraIngestBudgetBurnsFast", {_EVENTS % "202": "0+0x", _EVENTS % "503": "0+0x", BUILD: "1x"}),
    fires("PloraIngestBudgetBurnsSlowly", _asked(_EVENTS, 9_960, 40), 48, "5m", slo="ingest"),
    silent("PloraIngestBudgetBurnsSlowly", _asked(_EVENTS, 99_950, 50), 48, "5m"),
    fires("PloraAdaptersBudgetBurnsFast", _asked(_ADAPTER, 980, 20), 40, "2m", slo="adapters"),
    silent("PloraAdaptersBudgetBurnsFast", _asked(_ADAPTER, 1_000, 0), 40, "2m"),
    fires("PloraAdaptersBudgetBurnsSlowly", _asked(_ADAPTER, 9_960, 40), 48, "5m", slo="adapters"),
    silent("PloraAdaptersBudgetBurnsSlowly", _asked(_ADAPTER, 99_950, 50), 48, "5m"),
    fires("PloraFreshnessBudgetBurnsFast", _fresh(1, 9), 40, "2m", slo="freshness"),
    silent("PloraFreshnessBudgetBurnsFast", _fresh(8, 2), 40, "2m"),
    fires("PloraFreshnessBudgetBurnsSlowly", _fresh(8, 2), 48, "5m", slo="freshness"),
    silent("PloraFreshnessBudgetBurnsSlowly", _fresh(97, 3), 48, "5m"),
    fires("PloraDaemonAbsent", {"up": "1x"}),
    silent("PloraDaemonAbsent", {BUILD: "1x"}),
    fires("PloraDaemonsDiffer", {BUILD: "1x", 'plora_build_info{version="2"}': "1x"}),
    silent("PloraDaemonsDiffer", {BUILD: "1x", 'plora_build_info{version="2"}': "_x80 1+0x30"}),
    fires("PloraEventsNotDurable", {_STORED: "0+50x", _FAILED: "0+1x"}),
    silent("PloraEventsNotDurable", {_STORED: "0+50x", _FAILED: "0x"}),
    fires("PloraEventLoopStalls", {'plora_loop_stall_seconds{instance="one"}': "1.8x"}, instance="one"),
    silent("PloraEventLoopStalls", {'plora_loop_stall_seconds{instance="one"}': "0.2x"}),
    fires("PloraHostsTurnedAway", {'plora_rate_limited_total{kind="user"}': "0+10x", _EVENTS % "202": "0+100x"}),
    silent("PloraHostsTurnedAway", {'plora_rate_limited_total{kind="user"}': "0+1x", _EVENTS % "202": "0+100x"}),
    fires("PloraCallersDenied", {'plora_requests_denied_total{code="wrong_token"}': "0+20x"}),
    silent("PloraCallersDenied", {'plora_requests_denied_total{code="wrong_token"}': "0+1x"}),
    fires("PloraPausedLong", {'plora_paused{switch="training"}': "1x"}, 50, "5m", switch="training"),
    silent("PloraPausedLong", {'plora_paused{switch="training"}': "1x"}, 40, "5m"),
    fires("PloraIngestStalled", {"plora_ingest_last_poll_timestamp_seconds": "60x"}),
    silent("PloraIngestStalled", {"plora_ingest_last_poll_timestamp_seconds": "0+60x"}),
    fires("PloraIngestDisconnected", {"plora_ingest_connected": "0x"}),
    silent(
        "PloraIngestDisconnected",
        {'plora_ingest_connected{instance="a"}': "0x", 'plora_ingest_connected{instance="b"}': "1x"},
    ),
    fires("PloraIngestBehind", {"plora_ingest_pending_messages": "20000+100x"}),
    silent("PloraIngestBehind", {"plora_ingest_pending_messages": "40000-100x"}),
    fires("PloraMessagesPoisoned", {'plora_ingest_messages_total{outcome="dead_letter"}': "0x95 1+0x30"}),
    silent("PloraMessagesPoisoned", {'plora_ingest_messages_total{outcome="stored"}': "0+50x"}),
)
