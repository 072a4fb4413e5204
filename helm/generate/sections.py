"""What the values of the chart are built from: closed levels, and those that several components share."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

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
    digest: str = told(
        "Digest (sha256:...) that pins the image; wins over the tag.", pattern="^(sha256:[0-9a-f]{64})?$"
    )
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
    storage_class: str = told(
        "Storage class; empty: the cluster's default. No network file system: SQLite's locks fail there."
    )
    existing_claim: str = told("A claim that is there already.")


class Budget(Section):
    enabled: bool = told("Make a PodDisruptionBudget that lets one pod go at a time.", True)


class Key(Section):
    existing_secret: str = told("The Secret; empty: none.")
    key: str = told("Its key.", "value", min_length=1)
