"""The values of the chart as one typed model: what an operator may say, its default, and what it is for.

`values.yaml`, `values.schema.json` and the table of the chart's README are written from it. Every level is closed,
except `global` and free maps, which are passed on to Kubernetes as they are.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from helm.generate.settings import SettingsValues

Free = dict[str, Any]
Words = dict[str, str]
Switch = Annotated[str | bool, WithJsonSchema({"enum": ["auto", True, False]})]


def told(about: str, default: Any = "", **bounds: Any) -> Any:
    """A value with its description and its default."""
    return Field(default_factory=lambda: default, description=about, **bounds)


class Section(BaseModel):
    """A closed level of the values, written in camel case."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel, populate_by_name=True)


def part(kind: type[Section], about: str, **values: Any) -> Any:
    """A level below another, with defaults of its own."""
    return Field(default_factory=lambda: kind(**values), description=about)


def resources(cpu: str, memory: str, most: str) -> Free:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": most}}


class Image(Section):
    registry: str = told("Registry in front of the repository; global.imageRegistry wins over it.")
    repository: str = told("Repository of the one image for daemon, ingest and Ray.", "plora", min_length=1)
    tag: str = told("Tag; empty: the chart's appVersion. Another release than the chart's is refused.")
    digest: str = told("Digest (sha256:...) that pins the image; wins over the tag.", pattern="^(sha256:[0-9a-f]{64})?$")
    gpu_tag: str = told("Tag of the image built with ACCELERATOR=cuda, for GPU workers; empty: the tag with -cuda.")
    gpu_digest: str = told("Digest of that image.", pattern="^(sha256:[0-9a-f]{64})?$")
    any_release: bool = told("Take a tag of another release than the chart's appVersion.", False)
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = told("When images are pulled.", "IfNotPresent")
    pull_secrets: list[Free] = told("Secrets for the registry, as [{name: ...}].", [])


class Account(Section):
    create: bool = told("Make a ServiceAccount for these pods.", True)
    name: str = told("Its name; empty: one made from the release's.")
    annotations: Words = told("Its annotations, such as a cloud's workload identity.", {})
    labels: Words = told("Its labels.", {})


class Pods(Section):
    """What can be said of every kind of pod."""

    resources: Free = told("Requests and limits of the main container.", {})
    pod_annotations: Words = told("Annotations of the pods.", {})
    pod_labels: Words = told("Labels of the pods.", {})
    node_selector: Words = told("Nodes they may run on.", {})
    tolerations: list[Free] = told("Taints they tolerate.", [])
    affinity: Free = told("Affinity.", {})
    topology_spread_constraints: list[Free] = told("How they spread; empty: over nodes where possible.", [])
    priority_class_name: str = told("Priority class.")
    runtime_class_name: str = told("Runtime class.")
    extra_env: list[Free] = told("More environment variables; PLORA_* ones belong under `settings`.", [])
    extra_volumes: list[Free] = told("More volumes.", [])
    extra_volume_mounts: list[Free] = told("Where they are mounted in the main container.", [])


class Service(Section):
    type: Literal["ClusterIP", "NodePort", "LoadBalancer"] = told("Kind of the Service.", "ClusterIP")
    port: int = told("Its port.", 8470, ge=1, le=65535)
    annotations: Words = told("Its annotations.", {})


class Ingress(Section):
    enabled: bool = told("Make an Ingress for the daemon's API.", False)
    class_name: str = told("Ingress class.")
    host: str = told("Host name it answers to.")
    tls_secret: str = told("Secret with the certificate; empty: no TLS here.")
    annotations: Words = told("Its annotations.", {})


class Volume(Section):
    size: str = told("Size of the claim.", "10Gi", min_length=2)
    storage_class: str = told("Storage class; empty: the cluster's default. No network file system: SQLite's locks fail there.")
    existing_claim: str = told("A claim that is there already.")


class Budget(Section):
    enabled: bool = told("Make a PodDisruptionBudget that lets one pod go at a time.", True)


class Daemon(Pods):
    replicas: int = told("Daemons; more than one needs PostgreSQL.", 1, ge=1)
    termination_grace_period_seconds: int = told("Given to end in; above the lease, so that runs are handed back.", 90, ge=35)
    service: Service = part(Service, "The Service of the API.")
    ingress: Ingress = part(Ingress, "The Ingress of the API.")
    service_account: Account = part(Account, "Who the daemon is to the cluster: it asks nothing of it.")
    pdb: Budget = part(Budget, "How many daemons may be moved at once.")
    data: Volume = part(Volume, "Embedded mode: where SQLite and the bases lie.")


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
    ssl_mode: Literal["", "disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = told("libpq's sslmode; empty: libpq's default.")


class Migrations(Pods):
    mode: Literal["hook", "job", "initContainer", "none"] = told(
        "Who brings the schema up to date: a Helm hook before the upgrade, a Job beside it (for Argo CD and Flux), "
        "each daemon pod before it starts, or nobody here. A lock in the database makes all of them safe. Embedded mode does without.",
        "hook",
    )
    existing_secret: str = told("Secret of the role that migrates, with the keys of `database`; empty: the daemon's.")
    service_account: Account = part(Account, "Who the migration is to the cluster.")
    active_deadline_seconds: int = told("It has failed after this.", 600, ge=10)
    backoff_limit: int = told("How often it is tried again.", 2, ge=0)


class Key(Section):
    existing_secret: str = told("The Secret; empty: none.")
    key: str = told("Its key.", "value", min_length=1)


class Keys(Section):
    existing_secret: str = told("Secret with the key ring, from `python -m daemon keys make`; needed with PostgreSQL.")
    volume: Volume = part(Volume, "Embedded mode: where the ring is made at the first start.", size="1Gi")
    vault_token: Key = part(Key, "Token for Vault, with settings.keysProvider vault.", key="token")


class ObjectStore(Section):
    existing_secret: str = told("Secret with S3 credentials; empty: found as AWS's tools find them, such as by the account.")
    access_key_id_key: str = told("Its key of the access key id.", "accessKeyId", min_length=1)
    secret_access_key_key: str = told("Its key of the secret access key.", "secretAccessKey", min_length=1)


class Redis(Section):
    address: str = told("host:port of the Redis that the head's memory is kept in.")
    existing_secret: str = told("Secret with its password; empty: none.")
    password_key: str = told("Its key.", "password", min_length=1)


class FaultTolerance(Section):
    mode: Literal["off", "redis", "rocksdb"] = told("What keeps the head's memory over its death. rocksdb: KubeRay 1.7.", "off")
    redis: Redis = part(Redis, "With mode redis.")
    rocksdb_size: str = told("With mode rocksdb: size of the claim.", "5Gi", min_length=2)
    rocksdb_storage_class: str = told("With mode rocksdb: storage class of the claim.")


class RayAuth(Section):
    enabled: bool = told("Demand a token inside the Ray cluster. KubeRay 1.4 can not: it is off there.", True)
    existing_secret: str = told("Secret with the key auth_token; needed from KubeRay 1.6 on, 1.5 makes its own.")


class Autoscaling(Section):
    enabled: bool = told("Let Ray's autoscaler move groups between their bounds.", False)
    idle_timeout_seconds: int = told("A worker without work goes after this.", 300, ge=1)
    resources: Free = told("Requests and limits of the autoscaler.", resources("200m", "512Mi", "512Mi"))


class Head(Pods):
    service_account: Account = part(Account, "Who the head is; with autoscaling it may scale its own cluster.")


class Group(Pods):
    enabled: bool = told("Have this group.", True)
    replicas: int = told("Workers without autoscaling.", 1, ge=0)
    min_replicas: int = told("Least workers with autoscaling.", 0, ge=0)
    max_replicas: int = told("Most workers with autoscaling.", 4, ge=1)


class GpuGroup(Group):
    gpus: int = told("GPUs of each worker.", 1, ge=1)
    gpu_resource: str = told("How the cluster calls them.", "nvidia.com/gpu", min_length=1)


class Deployed(Section):
    replicas: int = told("Replicas that hold the model.", 1, ge=1)
    cpus: float = told("CPUs that Ray sets aside for each.", 1, gt=0)
    gpu_share: float = told("Share of a GPU that each takes; 0: none.", 0, ge=0, le=1)


class Trainer(Deployed):
    most_replicas: int = told("Serve adds replicas up to this while cohorts wait; 0: never more than `replicas`.", 0, ge=0)


class Ray(Section):
    mode: Literal["local", "kuberay", "external"] = told(
        "Where trainers are: beside the daemon in its own pod, in a RayService that this chart makes, or at `url`.", "local"
    )
    url: str = told("With mode external: where the trainers answer, http://...")
    kuberay_version: Literal["1.4", "1.5", "1.6", "1.7"] = told("Release of the KubeRay operator in the cluster.", "1.6")
    upgrade: Literal["NewCluster", "None"] = told("A change makes a new Ray cluster that takes over when it answers, or none.", "NewCluster")
    transport_keys_secret: str = told("Secret with the transport keys alone, for trainers; needed with kuberay.")
    auth: RayAuth = part(RayAuth, "Token authentication.")
    fault_tolerance: FaultTolerance = part(FaultTolerance, "What survives the head.")
    autoscaling: Autoscaling = part(Autoscaling, "Scaling of workers by Ray; by nothing else.")
    reconnect_seconds: int = told("How long Ray's processes wait for a head that is away.", 600, ge=60)
    trainer: Trainer = part(Trainer, "The deployment that fits cohorts and trains bases.")
    predictor: Deployed = part(Deployed, "The deployment that answers predictions.")
    head: Head = part(Head, "The head: no work, no GPU.", resources=resources("1", "4Gi", "4Gi"))
    cpu_workers: Group = part(Group, "Workers without a GPU.", resources=resources("2", "6Gi", "6Gi"))
    gpu_workers: GpuGroup = part(GpuGroup, "Workers with GPUs.", enabled=False, resources=resources("4", "24Gi", "24Gi"))
    worker_service_account: Account = part(Account, "Who workers are to the cluster.")


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
    keda: Keda = part(Keda, "Scaling by lag.")
    service_account: Account = part(Account, "Who consumers are to the cluster.")


class NetworkPolicy(Section):
    enabled: bool = told("Deny what is not listed, for every pod of this chart.", True)
    clients: list[Free] = told("Peers that may call the API; default: every pod of every namespace.", [{"namespaceSelector": {}}])
    monitoring: list[Free] = told("Peers that may scrape.", [{"namespaceSelector": {}}])
    kuberay: list[Free] = told(
        "Where the KubeRay operator is: it asks heads and workers how they are.",
        [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "kuberay-operator"}}}],
    )
    egress_ports: list[int] = told(
        "Ports of anything outside that daemons and migrations may reach: PostgreSQL, HTTPS, Vault, OTLP.", [5432, 443, 8200, 4318]
    )
    ray_egress_ports: list[int] = told("Ports outside that Ray's pods may reach: HTTPS, Redis, OTLP, the API server.", [443, 6379, 4318, 6443])
    broker_ports: list[int] = told("Ports of the broker.", [9092, 4222, 6379])
    egress_to: list[Free] = told("Peers those ports may be at; default: any address.", [{"ipBlock": {"cidr": "0.0.0.0/0"}}])


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
        default_factory=SettingsValues, description="Settings of the daemon: settings.trigger.minFresh is PLORA_TRIGGER_MIN_FRESH."
    )
    daemon: Daemon = part(Daemon, "The daemon.", resources=resources("500m", "2Gi", "4Gi"))
    database: Database = part(Database, "PostgreSQL, or SQLite where none is named.")
    migrations: Migrations = part(Migrations, "Migrations of the schema.", resources=resources("100m", "512Mi", "512Mi"))
    keys: Keys = part(Keys, "The key ring.")
    object_store: ObjectStore = part(ObjectStore, "Credentials for settings.blobsUrl and settings.exportUrl.")
    ray: Ray = part(Ray, "Trainers.")
    ingest: Ingest = part(Ingest, "Consumers of a broker.", resources=resources("100m", "256Mi", "512Mi"))
    network_policy: NetworkPolicy = part(NetworkPolicy, "Who may speak to whom.")
    metrics: Metrics = part(Metrics, "What Prometheus and Grafana get.")
    test_resources: Free = told("Requests and limits of the pod of `helm test`.", resources("50m", "128Mi", "256Mi"))
    extra_objects: list[Free] = told("More objects, with templates in them if need be.", [])
