"""Alerts on what hosts see: nobody answers, events are not stored, answers fail."""

from helm.generate.alerts import EACH, HOURS, Alert, Severity

SERVING = (
    Alert(
        "PloraDaemonAbsent",
        "absent(plora_build_info{@})",
        5,
        Severity.CRITICAL,
        "No daemon of plora is scraped",
        "For five minutes Prometheus has reached no daemon: hosts get no answer, or the scrape is broken.",
    ),
    Alert(
        "PloraDaemonsDiffer",
        f"count {EACH} (count by (cluster, namespace, version) (plora_build_info{{@}})) > 1",
        HOURS,
        Severity.WARNING,
        "Daemons of different versions run in {{ $labels.namespace }}",
        "{{ $value }} versions have run side by side for an hour: a rollout is stuck.",
    ),
    Alert(
        "PloraEventsNotDurable",
        f'sum {EACH} (increase(plora_events_received_total{{outcome="failed",@}}[5m])) > 0',
        2,
        Severity.CRITICAL,
        "Events cannot be stored in {{ $labels.namespace }}",
        "{{ $value | humanize }} events of the last five minutes were answered with an error, because the store "
        "refused them. "
        "Hosts send them again; hosts that do not have lost them.",
        "security",
    ),
    Alert(
        "PloraEventLoopStalls",
        "max by (cluster, namespace, instance) (plora_loop_stall_seconds{@}) > 1",
        5,
        Severity.WARNING,
        "The daemon {{ $labels.instance }} pauses",
        "Its event loop stood still for {{ $value | humanizeDuration }}; for as long it answered nobody.",
        "serving",
    ),
    Alert(
        "PloraHostsTurnedAway",
        f"sum {EACH} (rate(plora_rate_limited_total{{@}}[15m]))"
        f" > 0.05 * sum {EACH} (rate(plora_http_requests_total{{@}}[15m]))",
        30,
        Severity.WARNING,
        "Many requests are turned away in {{ $labels.namespace }}",
        "For half an hour more than 5 % of the load was beyond what is let in: {{ $value | humanize }} each second. "
        "A host misbehaves, or the limits are too low for the load.",
        "serving",
    ),
    Alert(
        "PloraCallersDenied",
        f'sum {EACH} (increase(plora_requests_denied_total{{code="wrong_token",@}}[15m])) > 100',
        0,
        Severity.WARNING,
        "Somebody tries tokens in {{ $labels.namespace }}",
        "{{ $value | humanize }} requests with a wrong token in 15 minutes: a host with an old token, or "
        "somebody who guesses.",
        "serving",
    ),
    Alert(
        "PloraPausedLong",
        "max by (cluster, namespace, switch) (plora_paused{@}) == 1",
        4 * HOURS,
        Severity.WARNING,
        "{{ $labels.switch }} has been paused in {{ $labels.namespace }} for four hours",
        "An operator paused it. Nothing resumes it but an operator.",
    ),
    Alert(
        "PloraIngestStalled",
        f"time() - max {EACH} (plora_ingest_last_poll_timestamp_seconds{{@}} > 0) > 120",
        2,
        Severity.CRITICAL,
        "No consumer asks the broker in {{ $labels.namespace }}",
        "The newest poll of an ingest process was {{ $value | humanizeDuration }} ago. Messages wait in the broker.",
        "serving",
    ),
    Alert(
        "PloraIngestDisconnected",
        f"max {EACH} (plora_ingest_connected{{@}}) == 0",
        5,
        Severity.CRITICAL,
        "No ingest process of {{ $labels.namespace }} reaches its broker",
        "For five minutes none was connected. Messages wait in the broker.",
        "serving",
    ),
    Alert(
        "PloraIngestBehind",
        "min_over_time(plora_ingest_pending_messages{@}[15m]) > 10000"
        " and deriv(plora_ingest_pending_messages{@}[15m]) > 0",
        15,
        Severity.WARNING,
        "Ingest falls behind its broker in {{ $labels.namespace }}",
        "{{ $value | humanize }} messages wait, and there are more each minute.",
        "serving",
    ),
    Alert(
        "PloraMessagesPoisoned",
        f'sum {EACH} (increase(plora_ingest_messages_total{{outcome="dead_letter",@}}[15m])) > 0',
        0,
        Severity.WARNING,
        "Messages were put aside in {{ $labels.namespace }}",
        "{{ $value | humanize }} messages of the last 15 minutes can never be events. They lie in the "
        "dead-letter place of the broker.",
        "serving",
    ),
)
