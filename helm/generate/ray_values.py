"""The values under `ray`: where trainers are, how many, and what they outlive."""

from typing import Literal

from helm.generate.sections import Account, Budget, Free, Pods, Section, part, resources, told


class Redis(Section):
    address: str = told("host:port of the Redis that the head's memory is kept in.")
    existing_secret: str = told("Secret with its password; empty: none.")
    password_key: str = told("Its key.", "password", min_length=1)


class FaultTolerance(Section):
    mode: Literal["off", "redis", "rocksdb"] = told(
        "What keeps the head's memory over its death. rocksdb: KubeRay 1.7.", "off"
    )
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
    most_replicas: int = told(
        "Serve adds replicas up to this while cohorts wait; 0: never more than `replicas`.", 0, ge=0
    )


class Ray(Section):
    mode: Literal["local", "kuberay", "external"] = told(
        "Where trainers are: beside the daemon in its own pod, in a RayService that this chart makes, or at `url`.",
        "local",
    )
    url: str = told("With mode external: where the trainers answer, http://...")
    kuberay_version: Literal["1.4", "1.5", "1.6", "1.7"] = told(
        "Release of the KubeRay operator in the cluster.", "1.6"
    )
    upgrade: Literal["NewCluster", "None"] = told(
        "A change makes a new Ray cluster that takes over when it answers, or none.", "NewCluster"
    )
    transport_keys_secret: str = told("Secret with the transport keys alone, for trainers; needed with kuberay.")
    pdb: Budget = part(Budget, "How many workers may be moved at once, where their number is fixed and above 1.")
    auth: RayAuth = part(RayAuth, "Token authentication.")
    fault_tolerance: FaultTolerance = part(FaultTolerance, "What survives the head.")
    autoscaling: Autoscaling = part(Autoscaling, "Scaling of workers by Ray; by nothing else.")
    spool_claim: str = told(
        "ReadWriteMany claim in which workers share the sealed population of a basis; empty: one worker trains alone."
    )
    reconnect_seconds: int = told("How long Ray's processes wait for a head that is away.", 600, ge=60)
    trainer: Trainer = part(Trainer, "The deployment that fits cohorts and trains bases.")
    predictor: Deployed = part(Deployed, "The deployment that answers predictions.")
    head: Head = part(Head, "The head: no work, no GPU.", resources=resources("1", "4Gi", "4Gi"))
    cpu_workers: Group = part(Group, "Workers without a GPU.", resources=resources("2", "6Gi", "6Gi"))
    gpu_workers: GpuGroup = part(
        GpuGroup, "Workers with GPUs.", enabled=False, resources=resources("4", "24Gi", "24Gi")
    )
    worker_service_account: Account = part(Account, "Who workers are to the cluster.")
