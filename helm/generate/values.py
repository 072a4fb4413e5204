"""The values of the chart as one typed model: what an operator may say, its default, and what it is for.

`values.yaml`, `values.schema.json` and the table of the chart's README are written from it. Every level is closed,
except `global` and free maps, which are passed on to Kubernetes as they are.
"""

from typing import Literal

from pydantic import Field

from helm.generate.ray_values import Ray
from helm.generate.sections import (
    Account,
    Budget,
    Free,
    Image,
    Ingress,
    Key,
    Pods,
    Section,
    Service,
    Switch,
    Volume,
    Words,
    part,
    resources,
    told,
)
from helm.generate.settings import SettingsValues


class Daemon(Pods):
    replicas: int = told("Daemons; more than one needs PostgreSQL.", 1, ge=1)
    termination_grace_period_seconds: int = told(
        "Given to end in; above the lease, so that runs are handed back.", 90, ge=35
    )
    service: Service = part(Service, "The Service of the API.")
    ingress: Ingress = part(Ingress, "The Ingress of the API.")
    service_account: Account = part(Account, "Who the daemon is to the cluster: it asks nothing of it.")
    pdb: Budget = part(Budget, "How many daemons may be moved at once.")
    data: Volume = part(Volume, "Embedded mode: where SQLite and the bases lie.")


SslMode = Literal["", "disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


class ComponentKeys(Section):
    host: str = told("Key with the server's host; set: the database is named by components and `uriKey` is not read.")
    port: str = told("Key with the port; empty: 5432.")
    name: str = told("Key with the database's name; empty: the role's name.")
    user: str = told("Key with the role; set together with `host`.")
    password: str = told("Key with the password.")


class Database(Section):
    existing_secret: str = told("Secret that names a PostgreSQL; empty: embedded mode, SQLite on a volume.")
    uri_key: str = told("Key of it with the whole address, postgresql://...", "uri", min_length=1)
    component_keys: ComponentKeys = part(ComponentKeys, "Keys of its parts, for Secrets that may not be edited.")
    ssl_mode: SslMode = told("libpq's sslmode; empty: libpq's default.")


class Migrations(Pods):
    mode: Literal["hook", "job", "initContainer", "none"] = told(
        "Who brings the schema up to date: a Helm hook before the upgrade, a Job beside it (for Argo CD and Flux), "
        "each daemon pod before it starts, or nobody here. A lock in the database makes all of them safe. "
        "Embedded mode does without.",
        "hook",
    )
    existing_secret: str = told("Secret of the role that migrates, with the keys of `database`; empty: the daemon's.")
    service_account: Account = part(Account, "Who the migration is to the cluster.")
    active_deadline_seconds: int = told("It has failed after this.", 600, ge=10)
    backoff_limit: int = told("How often it is tried again.", 2, ge=0)


class Keys(Section):
    existing_secret: str = told("Secret with the key ring, from `python -m daemon keys make`; needed with PostgreSQL.")
    volume: Volume = part(Volume, "Embedded mode: where the ring is made at the first start.", size="1Gi")
    vault_token: Key = part(Key, "Token for Vault, with settings.keysProvider vault.", key="token")


class ObjectStore(Section):
    existing_secret: str = told(
        "Secret with S3 credentials; empty: found as AWS's tools find them, such as by the account."
    )
    access_key_id_key: str = told("Its key of the access key id.", "accessKeyId", min_length=1)
    secret_access_key_key: str = told("Its key of the secret access key.", "secretAccessKey", min_length=1)


class Keda(Section):
    enabled: bool = told("Scale the consumers by KEDA. Trainers are never scaled by it: it kills what is busy.", False)
    min_replicas: int = told("Least consumers.", 1, ge=0)
    max_replicas: int = told("Most consumers.", 10, ge=1)
    triggers: list[Free] = told("KEDA's triggers, such as a Kafka lag.", [])


class Ingest(Pods):
    enabled: bool = told("Run consumers of the broker under settings.ingest.", False)
    replicas: int = told("Consumers without KEDA.", 1, ge=0)
    token: Key = part(Key, "Token of a caller with the scope events:write.", key="token")
    password: Key = part(Key, "Password for the broker; empty: none.", key="password")
    broker_ca: Key = part(Key, "Certificate authority of the broker; empty: the system's.", key="ca.crt")
    pdb: Budget = part(Budget, "How many consumers may be moved at once.")
    keda: Keda = part(Keda, "Scaling by lag.")
    service_account: Account = part(Account, "Who consumers are to the cluster.")


EVERYWHERE: list[Free] = [{"namespaceSelector": {}}, {"ipBlock": {"cidr": "0.0.0.0/0"}}, {"ipBlock": {"cidr": "::/0"}}]
"""Pods too: some networks never take a pod for an address."""


class NetworkPolicy(Section):
    enabled: bool = told("Deny what is not listed, for every pod of this chart.", True)
    clients: list[Free] = told(
        "Peers that may call the API; default: every pod of every namespace.", [{"namespaceSelector": {}}]
    )
    monitoring: list[Free] = told("Peers that may scrape.", [{"namespaceSelector": {}}])
    kuberay: list[Free] = told(
        "Where the KubeRay operator is: it asks heads and workers how they are.",
        [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}}}],
    )
    egress_ports: list[int] = told(
        "Ports of anything outside that daemons and migrations may reach: PostgreSQL, HTTPS, Vault, OTLP.",
        [5432, 443, 8200, 4318],
    )
    ray_egress_ports: list[int] = told(
        "Ports outside that Ray's pods may reach: HTTPS, Redis, OTLP, the API server.", [443, 6379, 4318, 6443]
    )
    broker_ports: list[int] = told("Ports of the broker.", [9092, 4222, 6379])
    egress_to: list[Free] = told("Peers those ports may be at; default: any pod and any address.", EVERYWHERE)
    dns: list[Free] = told(
        "Where names are looked up, on port 53; default: any pod, and the addresses of a node's own cache.",
        [{"namespaceSelector": {}}, {"ipBlock": {"cidr": "169.254.0.0/16"}}],
    )


class Monitor(Section):
    enabled: Switch = told("auto: where the cluster knows the kind.", "auto")
    labels: Words = told("Labels by which your Prometheus selects it, such as {release: kube-prometheus-stack}.", {})
    interval: str = told("How often to scrape.", "30s", pattern="^[0-9]+(ms|s|m)$")


class Rules(Section):
    enabled: Switch = told("auto: where the cluster knows the kind.", "auto")
    labels: Words = told("Labels by which your Prometheus selects it.", {})
    runbook_base: str = told(
        "Where the runbooks are, for links in alerts.", "https://github.com/plora/plora/blob/main/docs/runbooks.md"
    )
    alerts: Free = told(
        "By an alert's name what differs: {PloraTrainersAtMost: {enabled: false, for: 1h, severity: critical}}.", {}
    )


class Dashboards(Section):
    enabled: bool = told("ConfigMaps with the dashboards, for Grafana's sidecar.", True)
    labels: Words = told("Labels by which the sidecar selects them.", {"grafana_dashboard": "1"})
    folder: str = told("Grafana's folder for them.", "plora", min_length=1)


class Metrics(Section):
    service_monitor: Monitor = part(Monitor, "ServiceMonitor of the daemon.")
    pod_monitors: Monitor = part(Monitor, "PodMonitors of Ray and of the consumers.")
    rules: Rules = part(Rules, "PrometheusRule with alerts and recorded objectives.")
    dashboards: Dashboards = part(Dashboards, "Dashboards.")


class Values(Section):
    """The values of the chart."""

    global_: Free = Field(
        default_factory=lambda: {"imageRegistry": "", "imagePullSecrets": []},
        alias="global",
        description="Shared with other charts of an umbrella: imageRegistry and imagePullSecrets are read.",
    )
    enabled: bool = told("For umbrella charts: false renders nothing.", True)
    name_override: str = told("Instead of the chart's name.")
    fullname_override: str = told("Instead of the release's and the chart's name.")
    common_labels: Words = told("Labels of every object.", {})
    image: Image = part(Image, "The image.")
    settings: SettingsValues = Field(
        default_factory=SettingsValues,
        description="Settings of the daemon: settings.trigger.minFresh is PLORA_TRIGGER_MIN_FRESH.",
    )
    daemon: Daemon = part(Daemon, "The daemon.", resources=resources("500m", "2Gi", "4Gi"))
    database: Database = part(Database, "PostgreSQL, or SQLite where none is named.")
    migrations: Migrations = part(
        Migrations, "Migrations of the schema.", resources=resources("100m", "512Mi", "512Mi")
    )
    keys: Keys = part(Keys, "The key ring.")
    object_store: ObjectStore = part(ObjectStore, "Credentials for settings.blobsUrl and settings.exportUrl.")
    ray: Ray = part(Ray, "Trainers.")
    ingest: Ingest = part(Ingest, "Consumers of a broker.", resources=resources("100m", "256Mi", "512Mi"))
    network_policy: NetworkPolicy = part(NetworkPolicy, "Who may speak to whom.")
    metrics: Metrics = part(Metrics, "What Prometheus and Grafana get.")
    test_resources: Free = told("Requests and limits of the pod of `helm test`.", resources("50m", "128Mi", "256Mi"))
    extra_objects: list[Free] = told("More objects, with templates in them if need be.", [])
