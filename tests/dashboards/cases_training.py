"""Cases of the alerts on the way from event to adapter."""

from tests.dashboards.cases import fires, silent

_OLDEST, _QUEUE = "plora_oldest_pending_event_timestamp_seconds", "plora_queue_depth"
_SUCCESS, _HARMED, _GAIN = "plora_last_success_timestamp_seconds", "plora_harmed_ratio", "plora_population_gain_nats"
_GOOD = 'plora_runs_total{outcome="succeeded",code="beats_generic"}'
_RETRIED = 'plora_runs_total{outcome="retried",code="trainer_lost"}'
_BEAT, _MISSED = 'plora_heartbeat_timestamp_seconds{stage="fitted"}', 'plora_heartbeat_failures_total{stage="fitted"}'
_BACK, _PROMOTED = 'plora_versions_total{decision="rolled_back"}', 'plora_versions_total{decision="promoted"}'
_WANTED = 'ray_serve_autoscaling_desired_replicas{application="trainer",deployment="Trainer"}'
_GIVEN = 'ray_serve_autoscaling_target_replicas{application="trainer",deployment="Trainer"}'

CASES = (
    fires("PloraEventsWait", {_OLDEST: "60x", _QUEUE: "5x"}),
    silent("PloraEventsWait", {_OLDEST: "60x", _QUEUE: "0x"}),
    silent("PloraEventsWait", {_OLDEST: "0x", _QUEUE: "5x"}),
    fires("PloraNoRunSucceeds", {_SUCCESS: "60x", _QUEUE: "5x"}),
    silent("PloraNoRunSucceeds", {_SUCCESS: "60+60x", _QUEUE: "5x"}),
    fires("PloraRunsFail", {_GOOD: "0+10x", _RETRIED: "0+10x"}),
    silent("PloraRunsFail", {_GOOD: "0+10x", _RETRIED: "0+1x"}),
    fires("PloraRunsGivenUp", {"plora_dead_letters": "2x"}),
    silent("PloraRunsGivenUp", {"plora_dead_letters": "0x"}),
    fires("PloraHeartbeatStale", {_BEAT: "60x"}, stage="fitted"),
    silent("PloraHeartbeatStale", {_BEAT: "60+60x"}),
    silent("PloraHeartbeatStale", {_BEAT: "0x"}),
    fires("PloraHeartbeatFails", {_MISSED: "0+1x"}, stage="fitted"),
    silent("PloraHeartbeatFails", {_MISSED: "1x"}),
    fires("PloraTrainerDown", {"plora_trainer_up": "0x"}),
    silent("PloraTrainerDown", {'plora_trainer_up{instance="a"}': "0x", 'plora_trainer_up{instance="b"}': "1x"}),
    fires("PloraTrainerRestarts", {"plora_trainer_restarts_total": "0+0.1x"}),
    silent("PloraTrainerRestarts", {"plora_trainer_restarts_total": "0x90 1+0x40"}),
    fires("PloraLeasesLost", {"plora_leases_lost_total": "0+2x"}),
    silent("PloraLeasesLost", {"plora_leases_lost_total": "0+0.1x"}),
    fires("PloraStaleWritesRefused", {"plora_fence_rejections_total": "0+1x"}),
    silent("PloraStaleWritesRefused", {"plora_fence_rejections_total": "0x95 2+0x30"}),
    fires("PloraTrainersAtMost", {_WANTED: "6x", _GIVEN: "4x", _QUEUE: "9x"}),
    silent("PloraTrainersAtMost", {_WANTED: "4x", _GIVEN: "4x", _QUEUE: "9x"}),
    fires("PloraUsersHarmed", {_HARMED: "0.3x"}),
    silent("PloraUsersHarmed", {_HARMED: "0.04x"}),
    fires("PloraQualityFalls", {_GAIN: "0.08x30 0.03+0x90"}),
    silent("PloraQualityFalls", {_GAIN: "0.08x30 0.07+0x90"}),
    fires("PloraAdaptersRolledBack", {_BACK: "0+2x", _PROMOTED: "0+10x"}),
    silent("PloraAdaptersRolledBack", {_BACK: "0+0.2x", _PROMOTED: "0+10x"}),
)
