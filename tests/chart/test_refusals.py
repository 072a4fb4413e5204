"""What cannot work is refused before anything is written, with a sentence that says what is and what to do."""

import pytest

from tests.chart.engine import refusal
from tests.chart.kube.cluster import Cluster
from tests.chart.kube.kinds import EVERY_OPERATOR
from tests.chart.scenes import cluster, overlay, values

POSTGRES = "postgres-kuberay"
REFUSED = {
    "embedded mode with two daemons": (
        "embedded",
        {"daemon": {"replicas": 2}},
        ("daemon.replicas", "database.existingSecret"),
    ),
    "PostgreSQL without a key ring": (POSTGRES, {"keys": {"existingSecret": ""}}, ("keys.existingSecret", "keys make")),
    "trainers without transport keys": (POSTGRES, {"ray": {"transportKeysSecret": ""}}, ("ray.transportKeysSecret",)),
    "a Ray cluster without its token": (
        POSTGRES,
        {"ray": {"kuberayVersion": "1.6", "auth": {"enabled": True, "existingSecret": ""}}},
        ("ray.auth.existingSecret", "auth_token"),
    ),
    "rocksdb on an older KubeRay": (
        POSTGRES,
        {"ray": {"kuberayVersion": "1.6", "faultTolerance": {"mode": "rocksdb"}}},
        ("ray.faultTolerance.mode", "1.7"),
    ),
    "redis without an address": (
        POSTGRES,
        {"ray": {"faultTolerance": {"mode": "redis", "redis": {"address": ""}}}},
        ("ray.faultTolerance.redis.address",),
    ),
    "external trainers without an address": (POSTGRES, {"ray": {"mode": "external", "url": ""}}, ("ray.url",)),
    "an image of another release": (
        POSTGRES,
        {"image": {"tag": "0.0.1", "anyRelease": False}},
        ("image.tag", "image.anyRelease"),
    ),
    "SQLite on a network volume": (
        "embedded",
        {"daemon": {"data": {"storageClass": "nfs-client"}}},
        ("daemon.data.storageClass",),
    ),
    "consumers without a broker": (POSTGRES, {"ingest": {"enabled": True}}, ("settings.ingest.broker",)),
    "KEDA without a trigger": ("everything", {"ingest": {"keda": {"triggers": []}}}, ("ingest.keda.triggers",)),
    "an ingress without a host": (
        POSTGRES,
        {"daemon": {"ingress": {"enabled": True, "host": ""}}},
        ("daemon.ingress.host",),
    ),
    "a lease longer than the time to end": (
        POSTGRES,
        {"settings": {"leaseS": 120}, "daemon": {"terminationGracePeriodSeconds": 60}},
        ("daemon.terminationGracePeriodSeconds",),
    ),
    "a share of a GPU without GPUs": (
        POSTGRES,
        {"ray": {"gpuWorkers": {"enabled": False}}},
        ("ray.trainer.gpuShare", "ray.gpuWorkers.enabled"),
    ),
    "CUDA without a share of a GPU": (
        POSTGRES,
        {"settings": {"device": "cuda"}, "ray": {"predictor": {"gpuShare": 0}}},
        ("settings.device", "ray.predictor.gpuShare"),
    ),
    "workers of a basis without a folder that they share": (
        POSTGRES,
        {"settings": {"basis": {"workers": 2}}},
        ("settings.basis.workers", "ray.spoolClaim"),
    ),
    "a setting as an extra variable": (
        "embedded",
        {"daemon": {"extraEnv": [{"name": "PLORA_LEASE_S", "value": "1"}]}},
        ("daemon.extraEnv", "PLORA_LEASE_S", "settings"),
    ),
    "a name that begins with a digit": ("embedded", {"fullnameOverride": "1st"}, ("1st", "fullnameOverride")),
    "PostgreSQL without a place for bases": (POSTGRES, {"settings": {"blobsUrl": ""}}, ("settings.blobsUrl", "s3://")),
    "Vault without a token": (
        POSTGRES,
        {"settings": {"keysProvider": "vault"}},
        ("settings.keysProvider", "keys.vaultToken.existingSecret"),
    ),
    "component keys without a role": (
        POSTGRES,
        {"database": {"componentKeys": {"host": "host"}}},
        ("database.componentKeys.host", "database.componentKeys.user"),
    ),
    "no worker at all": (
        POSTGRES,
        {"ray": {"cpuWorkers": {"enabled": False}, "gpuWorkers": {"enabled": False}}},
        ("ray.cpuWorkers",),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_with_what_to_do(case):
    file, extra, words = REFUSED[case]
    chosen = overlay(values(file), extra)
    made = cluster(chosen)
    said = refusal(made, chosen)
    assert all(word in said for word in words), said
    assert made.objects() == {}


@pytest.mark.parametrize(
    ("absent", "extra", "word"),
    [
        ("ray", {}, "KubeRay"),
        ("monitoring", {"metrics": {"serviceMonitor": {"enabled": True}}}, "metrics.serviceMonitor.enabled"),
        ("keda", {"ingest": {"keda": {"enabled": True}}}, "KEDA"),
    ],
)
def test_a_missing_operator_is_named_where_it_was_asked_for(absent, extra, word):
    chosen = overlay(values("everything"), extra)
    assert word in refusal(cluster(chosen, operators=EVERY_OPERATOR - {absent}), chosen)


def test_a_secret_that_is_not_there_is_what_the_cluster_names():
    chosen = values(POSTGRES)
    assert "which is not there" in refusal(Cluster(), chosen)
