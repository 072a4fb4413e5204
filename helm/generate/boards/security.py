"""Security & storage: keys, seals, fences, erasures, the audit chain, the database and its disk."""

from helm.generate.boards.panels import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    RED,
    Board,
    Panel,
    Query,
    Row,
    age,
    rate,
    standing,
    stat,
)

_DAY_S = 86_400.0

_NOW = Row(
    "Now",
    (
        stat(
            "Database",
            "Whether every daemon reaches it.",
            "none",
            Query("min(plora_storage_up{@})", "up"),
            base=RED,
            steps=((1, GREEN),),
            words={"0": "down", "1": "up"},
        ),
        stat(
            "Key ring",
            "Whether every daemon can unwrap with the root of its keys.",
            "none",
            Query("min(plora_keys_up{@})", "up"),
            base=RED,
            steps=((1, GREEN),),
            words={"0": "down", "1": "up"},
        ),
        stat(
            "Values that did not unseal",
            "In the last 24 hours. Damage or tampering: each one is a matter to look into.",
            "none",
            Query('sum(increase(plora_unseal_total{outcome="unreadable",@}[1d]))', "values"),
            steps=((1, RED),),
            decimals=0,
        ),
        stat(
            "Stored things lost",
            "In the last 24 hours: found damaged or gone, and replaced where that was possible.",
            "none",
            Query("sum(increase(plora_lost_total{@}[1d]))", "things"),
            steps=((1, RED),),
            decimals=0,
        ),
        stat(
            "Oldest erasure that is not complete",
            "Age of the oldest request to forget a user whose old key copies still open.",
            "s",
            Query(
                f"max({age('plora_oldest_pending_erasure_timestamp_seconds')}) or 0 * max(plora_build_info{{@}})", "age"
            ),
            steps=((7 * _DAY_S, AMBER), (8 * _DAY_S, RED)),
            words={"0": "none"},
        ),
        stat(
            "Disk left",
            "Bytes free where the daemon keeps its data, of the fullest.",
            "bytes",
            Query("min(plora_disk_free_bytes{@})", "free"),
            base=RED,
            steps=((2**30, AMBER), (5 * 2**30, GREEN)),
        ),
    ),
)

_SEALS = Row(
    "Seals and fences",
    (
        Panel("Sealed", "Values sealed each second.", "ops", (Query(rate("plora_seal_total", "kind"), "{{kind}}"),)),
        Panel(
            "Unsealed", "Values unsealed each second.", "ops", (Query(rate("plora_unseal_total", "kind"), "{{kind}}"),)
        ),
        Panel(
            "What must not happen",
            "In five minutes: values that did not unseal, stale writes that the fence refused, things lost, "
            "files refused at the gate.",
            "none",
            (
                Query('sum(increase(plora_unseal_total{outcome="unreadable",@}[5m]))', "did not unseal", RED),
                Query("sum(increase(plora_fence_rejections_total{@}[5m]))", "stale writes refused", AMBER),
                Query("sum(increase(plora_lost_total{@}[5m]))", "things lost", BLUE),
                Query('sum(increase(plora_gate_total{code!="ok",@}[5m]))', "files refused at the gate", GREY),
            ),
        ),
    ),
)

_KEYS = Row(
    "Keys, erasures, audit",
    (
        Panel(
            "Key epochs, by state",
            "Epochs of the ring.",
            "none",
            (Query("max by (state) (plora_key_epochs{@})", "{{state}}"),),
            width=6,
        ),
        Panel(
            "Age of the newest key epoch",
            "It should be rotated before it is a year old.",
            "s",
            (Query(age("plora_key_epoch_created_timestamp_seconds"), "{{namespace}}"),),
            width=6,
        ),
        Panel(
            "Erasures that are not complete",
            "Users forgotten whose wrapped keys in old copies still open until the epoch is rolled.",
            "none",
            (Query(standing("plora_erasures_pending"), "pending", AMBER),),
            width=6,
        ),
        Panel(
            "Exports that wait",
            "Erasures and signed checkpoints not yet written to the place apart.",
            "none",
            (Query(standing("plora_exports_pending"), "pending", AMBER),),
            width=6,
        ),
        Panel(
            "Audit entries",
            "Entries of the audit chain.",
            "short",
            (Query(standing("plora_audit_entries"), "entries"),),
            width=12,
        ),
        Panel(
            "Age of the newest signed checkpoint",
            "While entries are added, one is signed each minute or each thousand.",
            "s",
            (Query(age("plora_audit_checkpoint_timestamp_seconds"), "{{namespace}}"),),
            width=12,
        ),
    ),
)

_STORE = Row(
    "Database, blobs, disk",
    (
        Panel(
            "Database",
            "Bytes it takes.",
            "bytes",
            (Query(standing("plora_database_bytes"), "database", BLUE),),
            width=6,
        ),
        Panel(
            "Blobs",
            "Bytes of sealed bases and other blobs.",
            "bytes",
            (Query(standing("plora_blobs_bytes"), "blobs", BLUE),),
            width=6,
        ),
        Panel(
            "Disk left",
            "Bytes free where each daemon keeps its data.",
            "bytes",
            (Query("min by (instance) (plora_disk_free_bytes{@})", "{{instance}}"),),
            width=6,
        ),
        Panel(
            "Errors of the database",
            "Errors each second, by what the store calls them.",
            "ops",
            (Query(rate("plora_storage_errors_total", "error"), "{{error}}"),),
            width=6,
        ),
        Panel(
            "Age of the counts from the database",
            "Queue, users and sizes are read in the background; when this climbs they are old.",
            "s",
            (Query(age("plora_standing_timestamp_seconds"), "{{namespace}}"),),
            width=24,
            height=6,
        ),
    ),
)

SECURITY = Board(
    "security",
    "plora / Security & storage",
    "Keys, seals, fences, erasures, the audit chain, the database and its disk.",
    (_NOW, _SEALS, _KEYS, _STORE),
)
