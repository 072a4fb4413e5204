"""Cases of the alerts on what must not be lost, and on Ray."""

from tests.dashboards.cases import fires, silent

_DISK, _UNREADABLE = 'plora_disk_free_bytes{instance="one"}', 'plora_unseal_total{kind="event",outcome="unreadable"}'
_EPOCH, _ERASURE = "plora_key_epoch_created_timestamp_seconds", "plora_oldest_pending_erasure_timestamp_seconds"
_SIGNED, _ENTRIES = "plora_audit_checkpoint_timestamp_seconds", "plora_audit_entries"
_NODES, _STATE = (
    'ray_cluster_active_nodes{node_type="gpu"}',
    'ray_gcs_storage_operation_latency_ms_count{Operation="Put"}',
)
_APP = 'ray_serve_application_status{application="trainer"}'
_USED, _TOTAL = 'ray_node_mem_used{ip="192.0.2.1"}', 'ray_node_mem_total{ip="192.0.2.1"}'
_GATE = 'plora_gate_total{kind="adapter",code="%s"}'

CASES = (
    fires("PloraDatabaseDown", {'plora_storage_up{instance="a"}': "1x", 'plora_storage_up{instance="b"}': "0x"}),
    silent("PloraDatabaseDown", {"plora_storage_up": "1x"}),
    fires("PloraDatabaseErrors", {'plora_storage_errors_total{error="locked"}': "0+1x"}, error="locked"),
    silent("PloraDatabaseErrors", {'plora_storage_errors_total{error="locked"}': "0+0.1x"}),
    fires("PloraCountsOld", {"plora_standing_timestamp_seconds": "60x"}),
    silent("PloraCountsOld", {"plora_standing_timestamp_seconds": "1+60x"}),
    fires("PloraKeysUnavailable", {"plora_keys_up": "0x"}),
    silent("PloraKeysUnavailable", {"plora_keys_up": "1x"}),
    fires("PloraKeyEpochOld", {_EPOCH: "60x"}, 420, "1d"),
    silent("PloraKeyEpochOld", {_EPOCH: "60x"}, 380, "1d"),
    fires("PloraUnsealFails", {_UNREADABLE: "0x95 1+0x30"}, kind="event"),
    silent("PloraUnsealFails", {_UNREADABLE: "0x"}),
    fires("PloraStoredThingsLost", {'plora_lost_total{kind="basis"}': "0x90 1+0x30"}, kind="basis"),
    silent("PloraStoredThingsLost", {'plora_lost_total{kind="basis"}': "0x"}),
    fires(
        "PloraFilesRefused",
        {_GATE % "ok": "0+9x", _GATE % "too_large": "0x90 2+0x30"},
        kind="adapter",
        code="too_large",
    ),
    silent("PloraFilesRefused", {_GATE % "ok": "0+9x", _GATE % "too_large": "0x"}),
    fires("PloraErasureLate", {_ERASURE: "60x"}, 10, "1d"),
    silent("PloraErasureLate", {_ERASURE: "60x"}, 7, "1d"),
    silent("PloraErasureLate", {_ERASURE: "0x"}, 20, "1d"),
    fires("PloraExportsWait", {"plora_exports_pending": "3x"}),
    silent("PloraExportsWait", {"plora_exports_pending": "0x"}),
    fires("PloraAuditUnsigned", {_SIGNED: "60x", _ENTRIES: "0+5x"}),
    silent("PloraAuditUnsigned", {_SIGNED: "60x", _ENTRIES: "900x"}),
    fires("PloraDiskNearlyFull", {_DISK: f"{2**29}x"}, instance="one"),
    silent("PloraDiskNearlyFull", {_DISK: f"{60 * 2**30}x"}),
    silent("PloraDiskNearlyFull", {_DISK: f"{60 * 2**30}-1000000x"}),
    fires("PloraRayHeadDown", {_NODES: "2x80"}),
    silent("PloraRayHeadDown", {_NODES: "2x"}),
    silent("PloraRayHeadDown", {"up": "1x"}),
    fires("PloraRayStorageDown", {_STATE: "0+9x70 630+0x60"}),
    silent("PloraRayStorageDown", {_STATE: "0+9x"}),
    fires("PloraRayNodesLost", {_NODES: "6x86 1+0x30"}),
    silent("PloraRayNodesLost", {_NODES: "6x86 5+0x30"}),
    fires("PloraRayAppUnhealthy", {_APP: "2x"}, application="trainer"),
    silent("PloraRayAppUnhealthy", {_APP: "6x"}),
    fires("PloraRayMemoryNearlyFull", {_USED: "95x", _TOTAL: "100x"}, ip="192.0.2.1"),
    silent("PloraRayMemoryNearlyFull", {_USED: "60x", _TOTAL: "100x"}),
    fires("PloraRayNodesNotStarting", {'autoscaler_pending_nodes{NodeType="gpu"}': "1x"}),
    silent("PloraRayNodesNotStarting", {'autoscaler_pending_nodes{NodeType="gpu"}': "1x80 0+0x40"}),
)
