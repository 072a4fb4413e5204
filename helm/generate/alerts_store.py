"""Alerts on what must not be lost: database, keys, seals, erasures, the audit chain, the disk."""

from helm.generate.alerts import EACH, HOURS, Alert, Severity, age

DAY_S = 86_400

STORE = (
    Alert(
        "PloraDatabaseDown",
        f"min {EACH} (plora_storage_up{{@}}) == 0",
        2,
        Severity.CRITICAL,
        "A daemon of {{ $labels.namespace }} does not reach its database",
        "Events are answered 503 and hosts send them again; nothing is trained.",
        "security",
    ),
    Alert(
        "PloraDatabaseErrors",
        "sum by (cluster, namespace, error) (increase(plora_storage_errors_total{@}[10m])) > 5",
        10,
        Severity.WARNING,
        "The database answers with {{ $labels.error }} in {{ $labels.namespace }}",
        "{{ $value | humanize }} errors in ten minutes.",
        "security",
    ),
    Alert(
        "PloraCountsOld",
        f"{age('plora_standing_timestamp_seconds')} > 300",
        5,
        Severity.WARNING,
        "Counts from the database are old in {{ $labels.namespace }}",
        "Queue, users and sizes on the boards are {{ $value | humanizeDuration }} old: alerts that read them see "
        "the past.",
        "security",
    ),
    Alert(
        "PloraKeysUnavailable",
        f"min {EACH} (plora_keys_up{{@}}) == 0",
        2,
        Severity.CRITICAL,
        "A daemon of {{ $labels.namespace }} cannot use its keys",
        "It can neither seal nor unseal: events are refused and adapters are not given out.",
        "security",
    ),
    Alert(
        "PloraKeyEpochOld",
        f"{age('plora_key_epoch_created_timestamp_seconds')} > {400 * DAY_S}",
        HOURS,
        Severity.WARNING,
        "The key epoch of {{ $labels.namespace }} is old",
        "The newest was made {{ $value | humanizeDuration }} ago. Rotate it.",
        "security",
    ),
    Alert(
        "PloraUnsealFails",
        'sum by (cluster, namespace, kind) (increase(plora_unseal_total{outcome="unreadable",@}[15m])) > 0',
        0,
        Severity.CRITICAL,
        "Sealed {{ $labels.kind }} values do not open in {{ $labels.namespace }}",
        "{{ $value | humanize }} in 15 minutes: damage, tampering, or the wrong key ring after a restore.",
        "security",
    ),
    Alert(
        "PloraStoredThingsLost",
        "sum by (cluster, namespace, kind) (increase(plora_lost_total{@}[1h])) > 0",
        0,
        Severity.WARNING,
        "Stored {{ $labels.kind }} is damaged or gone in {{ $labels.namespace }}",
        "{{ $value | humanize }} in an hour. It is made again where that is possible; look for the cause.",
        "security",
    ),
    Alert(
        "PloraFilesRefused",
        'sum by (cluster, namespace, kind, code) (increase(plora_gate_total{code!="ok",@}[1h])) > 0',
        0,
        Severity.WARNING,
        "A file was refused at the gate in {{ $labels.namespace }}",
        "{{ $value | humanize }} of kind {{ $labels.kind }}, because {{ $labels.code }}: what trainers send back "
        "is not what they should.",
        "security",
    ),
    Alert(
        "PloraErasureLate",
        f"{age('plora_oldest_pending_erasure_timestamp_seconds')} > {8 * DAY_S}",
        HOURS,
        Severity.CRITICAL,
        "An erasure is late in {{ $labels.namespace }}",
        "A user was forgotten {{ $value | humanizeDuration }} ago, and old copies of their key still open. The "
        "promise is seven days unless you set another.",
        "security",
    ),
    Alert(
        "PloraExportsWait",
        f"max {EACH} (min_over_time(plora_exports_pending{{@}}[1h])) > 0",
        5,
        Severity.WARNING,
        "Exports cannot be written in {{ $labels.namespace }}",
        "{{ $value }} erasures or checkpoints have waited for an hour: a backup restored now would not know of them.",
        "security",
    ),
    Alert(
        "PloraAuditUnsigned",
        f"{age('plora_audit_checkpoint_timestamp_seconds')} > 3600"
        f" and max {EACH} (plora_audit_entries{{@}} - plora_audit_entries{{@}} offset 1h) > 0",
        15,
        Severity.WARNING,
        "New audit entries are not signed in {{ $labels.namespace }}",
        "The last signed checkpoint is {{ $value | humanizeDuration }} old, though entries were added.",
        "security",
    ),
    Alert(
        "PloraDiskNearlyFull",
        f"min by (cluster, namespace, instance) (plora_disk_free_bytes{{@}}) < {2**30}"
        " or (predict_linear(plora_disk_free_bytes{@}[6h], 86400) < 0"
        " and plora_disk_free_bytes{@} < 50 * 1024 ^ 3)",
        15,
        Severity.CRITICAL,
        "The disk of {{ $labels.instance }} is nearly full",
        "{{ $value | humanize1024 }}B are left, or will be in a day if it goes on so. With a full disk no event "
        "can be stored.",
        "security",
    ),
)
