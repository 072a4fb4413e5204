"""C7: two renderings are the same bytes, and no secret stands anywhere but in a Secret that the operator made."""

import json
import re

import pytest

from tests.chart.agreement import workloads
from tests.chart.engine import CHART, render
from tests.chart.scenes import FILES, cluster, of_kind, scene, values

CHANCE = re.compile(
    r"\b(rand\w+|genPrivateKey|genCA|genSelfSignedCert|genSignedCert|now|uuidv4|lookup|htpasswd|derivePassword)\b"
)
PARTS = {"host": "h0", "port": "p0", "name": "n0", "user": "u0", "password": "w0"}
CREDENTIALS = {  # values, and the names and keys that must be referred to
    "database by address": ({"database": {"existingSecret": "db", "uriKey": "address"}}, [("db", "address")]),
    "database by parts": (
        {"database": {"existingSecret": "db", "componentKeys": PARTS}},
        [("db", f'"key": "{key}"') for key in PARTS.values()],
    ),
    "migration": (
        {"migrations": {"existingSecret": "migrator"}, "database": {"uriKey": "address"}},
        [("migrator", "address")],
    ),
    "token of Ray": ({"ray": {"auth": {"existingSecret": "token"}}}, [("token", "auth_token")]),
    "object store": (
        {"objectStore": {"existingSecret": "s3", "accessKeyIdKey": "id0", "secretAccessKeyKey": "key0"}},
        [("s3", "id0"), ("s3", "key0")],
    ),
    "key ring": (
        {"keys": {"existingSecret": "ring"}, "ray": {"transportKeysSecret": "part"}},
        [("ring", ""), ("part", "")],
    ),
    "Vault": ({"keys": {"vaultToken": {"existingSecret": "vault", "key": "t0"}}}, [("vault", "")]),
    "caller of the consumers": ({"ingest": {"token": {"existingSecret": "caller", "key": "t0"}}}, [("caller", "")]),
    "broker": ({"ingest": {"password": {"existingSecret": "broker", "key": "p0"}}}, [("broker", "")]),
}
NO_SECRET = {"PLORA_VAULT_KEY"}  # the name of a key inside Vault
SECRET_NAME = re.compile(r"(PASSWORD|TOKEN|SECRET|_KEY|DATABASE_URL)$")


@pytest.mark.parametrize("file", FILES)
def test_two_renderings_are_the_same_bytes(file):
    first, second = (render(cluster(values(file)), values(file)) for _ in range(2))
    assert _text(first) == _text(second)


def test_no_template_asks_for_chance_the_clock_or_the_cluster():
    for file in sorted((CHART / "templates").rglob("*.*")):
        for action in re.findall(r"\{\{-?(.*?)-?\}\}", file.read_text(), re.DOTALL):
            words = re.sub(r'"[^"]*"|/\*.*?\*/', "", action, flags=re.DOTALL)
            assert not CHANCE.search(words), f"{file.name}: {action.strip()}"


@pytest.mark.parametrize("file", FILES)
def test_what_is_secret_comes_from_a_secret(file):
    objects = scene(file)
    assert of_kind(objects, "Secret") == {}, "the chart makes no Secret: its value would lie in Helm's own records"
    for place, _, spec in workloads(objects):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            for each in container.get("env", []):
                if SECRET_NAME.search(each["name"]) and each.get("value"):
                    assert each["value"].startswith(("/", "postgresql://")) or each["value"].isdigit(), (place, each)
                    assert "@" not in each["value"], (place, each["name"])
    for place, each in of_kind(objects, "ConfigMap").items():
        for name, value in each.get("data", {}).items():
            if SECRET_NAME.search(name) and name not in NO_SECRET:
                assert value == "" or value.startswith("/"), f"{place}: {name}"


@pytest.mark.parametrize("what", CREDENTIALS)
def test_each_credential_is_a_secret_by_name_and_key(what):
    chosen, wanted = CREDENTIALS[what]
    text = json.dumps([spec for _, _, spec in workloads(scene("everything", chosen))])
    for name, key in wanted:
        assert f'"name": "{name}"' in text or f'"secretName": "{name}"' in text, name
        assert key in text, key


def test_the_redis_of_the_head_is_a_secret_by_name_and_key():
    redis = {"address": "redis:6379", "existingSecret": "of-redis", "passwordKey": "pw"}
    extra = {"ray": {"kuberayVersion": "1.6", "faultTolerance": {"mode": "redis", "redis": redis}}}
    (service,) = of_kind(scene("everything", extra), "RayService").values()
    options = service["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]
    assert options["redisPassword"]["valueFrom"]["secretKeyRef"] == {"name": "of-redis", "key": "pw"}


def _text(objects):
    kept = {place: {**each, "metadata": _stable(each["metadata"])} for place, each in objects.items()}
    return json.dumps(kept, sort_keys=True)


def _stable(meta):
    return {name: value for name, value in meta.items() if name not in ("uid", "resourceVersion", "generation")}
