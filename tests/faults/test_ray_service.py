"""Long: what the chart has KubeRay run, on a real Ray: it fits, and trainers come when the daemons send more."""

import time
from pathlib import Path

import pytest
import yaml

from tests.faults.figures import record
from tests.faults.killing import until
from tests.faults.ray_world import World, thaw, world
from tests.faults.real_daemon import LIMIT_S

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

KEPT = Path(__file__).parents[1] / "chart" / "arrival" / "serve.yaml"
SCALED_S = 90.0


class Chart(World):
    """Serve's config is the chart's, but for the port."""

    def deploy(self, **changed: object) -> None:
        config = yaml.safe_load(KEPT.read_text())
        config["http_options"]["port"] = self.ray.serve
        self.args |= changed
        self.ray.deploy(config)


def test_the_charts_own_config_fits_users_and_scales_its_trainers(tmp_path):
    with world(tmp_path / "plora", replicas=1, most=2, kind=Chart) as made:
        made.seconds_until_judged(made.people.newcomers(4), time.monotonic())
        whom = made.held_fit(8)
        begun = time.monotonic()
        assert until(lambda: len(made.people.newcomers(1)) and len(made.ray.replicas()) == 2, SCALED_S, 1.0)
        scaled_s = round(time.monotonic() - begun, 1)
        thaw(made.ray.replicas())
        made.seconds_until_judged(whom, begun)
        assert until(made.people.have_versions, LIMIT_S)
        record("O4.chart", 0, full=True, users=len(made.people.everyone), second_trainer_s=scaled_s)
        assert not made.people.judged_wrongly()
