"""The real Helm engine against a Cluster: one release, its revisions, and the texts of what was refused."""

import asyncio
import atexit
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_sdkpy

from tests.chart.kube.cluster import Cluster
from tests.chart.kube.server import kubeconfig, serving

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"
LIGHT = Path(tempfile.mkdtemp(prefix="plora-chart-")) / "helm"
"""The chart without its dashboards: most of its bytes, which Helm would pack into its records at every install."""
NAMESPACE = "plora-system"
NAME = "rel"
TIMEOUT_S = 20
Values = dict[str, Any]
shutil.copytree(CHART, LIGHT, ignore=shutil.ignore_patterns("dashboards", "generate", "__pycache__"))
atexit.register(shutil.rmtree, LIGHT.parent, ignore_errors=True)


@dataclass(frozen=True)
class Release:
    """One release of a chart in one namespace of one cluster, whose API answers at `url`."""

    cluster: Cluster
    url: str

    def install(self, values: Values | None = None, *, chart: Path = LIGHT, wait: bool = False) -> Values:
        ways = {"wait": wait, "timeout": TIMEOUT_S, "server_side_apply": True}
        return self._act(helm_sdkpy.Install, str(chart), values or {}, **ways)

    def upgrade(
        self, values: Values | None = None, *, chart: Path = LIGHT, wait: bool = False, rollback: bool = False
    ) -> Values:
        ways = {"wait": wait or rollback, "timeout": TIMEOUT_S, "rollback_on_failure": rollback}
        return self._act(helm_sdkpy.Upgrade, str(chart), values or {}, **ways)

    def uninstall(self) -> Values:
        return self._act(helm_sdkpy.Uninstall, wait=False, timeout=TIMEOUT_S)

    def test(self) -> Values:
        return self._act(helm_sdkpy.ReleaseTest)

    def history(self) -> list[Values]:
        return self._act(helm_sdkpy.History)

    def _act(self, action: Any, *facts: object, **ways: object) -> Any:
        """Run `action` with a client of its own: one client slows down after some tens of requests."""
        with helm_sdkpy.Configuration(NAMESPACE, kubeconfig(self.url, NAMESPACE)) as configuration:
            return asyncio.run(action(configuration).run(NAME, *facts, **ways))


@contextlib.contextmanager
def releasing(cluster: Cluster) -> Iterator[Release]:
    """A Release in `cluster`, whose API answers while the block runs."""
    with serving(cluster) as url:
        yield Release(cluster, url)


def render(cluster: Cluster, values: Values | None = None, *, chart: Path = LIGHT) -> dict[str, Values]:
    """Every object that installing the chart leaves in `cluster`, as `plural/name`."""
    with releasing(cluster) as release:
        release.install(values, chart=chart)
    return cluster.objects()


def refusal(cluster: Cluster, values: Values | None = None, *, chart: Path = LIGHT) -> str:
    """What the engine says when it does not install the chart."""
    try:
        render(cluster, values, chart=chart)
    except helm_sdkpy.HelmError as error:
        return str(error)
    raise AssertionError("the chart was installed")


def package(chart: Path, into: Path) -> Path:
    """The chart as Helm packs it: the file's name is the engine's choice."""
    with helm_sdkpy.Configuration(NAMESPACE, kubeconfig("http://127.0.0.1:1", NAMESPACE)) as configuration:
        return Path(asyncio.run(helm_sdkpy.Package(configuration).run(str(chart), str(into))))
