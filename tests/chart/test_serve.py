"""What the chart has Serve run, kept as a file: there is no Ray here, and no Helm where that is run with a real Ray.

`python -m tests.chart.test_serve` writes it again.
"""

from pathlib import Path

from tests.chart.scenes import scene

KEPT = Path(__file__).with_name("arrival") / "serve.yaml"
SCALED = {"ray": {"trainer": {"replicas": 1, "mostReplicas": 2}}, "settings": {"threads": 1}}


def rendered() -> str:
    """The `serveConfigV2` of a cluster without a GPU whose trainers scale from one to two."""
    objects = scene("cpu-only", SCALED)
    [service] = [each for name, each in objects.items() if name.startswith("rayservices/")]
    return service["spec"]["serveConfigV2"]


def test_what_is_rehearsed_with_a_real_ray_is_what_the_chart_renders():
    assert KEPT.read_text(encoding="utf-8") == rendered(), "python -m tests.chart.test_serve writes it again"


if __name__ == "__main__":
    KEPT.write_text(rendered(), encoding="utf-8")
