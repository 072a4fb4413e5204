"""The Dockerfile, without a container engine: what it says, and its steps carried out in a folder of their own."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).parents[2]
UID = 10_001
START_S = 120.0


@dataclass(frozen=True)
class Step:
    """One instruction of one stage, numbered from the first FROM."""

    stage: int
    name: str
    value: str


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    found, stage = [], -1
    with (ROOT / "Dockerfile").open("rb") as file:
        for each in DockerfileParser(fileobj=file).structure:
            stage += each["instruction"] == "FROM"
            if each["instruction"] != "COMMENT":
                found.append(Step(stage, each["instruction"], each["value"]))
    return found


def last(steps: list[Step], name: str) -> str:
    return [each.value for each in steps if each.name == name][-1]


def test_every_stage_is_pinned_by_a_digest_that_the_builder_has_to_name(steps):
    sources = [each.value for each in steps if each.name == "FROM"]
    assert len(sources) == 2
    assert all("@${PYTHON_DIGEST}" in each for each in sources)
    assert [each.value for each in steps if each.name == "ARG" and each.stage < 0] == ["PYTHON_DIGEST"]


def test_the_image_runs_the_daemon_as_somebody_who_is_not_root(steps):
    assert last(steps, "USER") == f"{UID}:{UID}"
    assert json.loads(last(steps, "ENTRYPOINT")) == ["python", "-m", "daemon"]
    assert json.loads(last(steps, "CMD")) == ["serve"]
    assert [each.name for each in steps].index("USER") > max(
        place for place, each in enumerate(steps) if each.name in {"RUN", "COPY"}
    )


def test_the_last_stage_takes_the_environment_and_the_code_and_no_compiler(steps):
    final = [each for each in steps if each.stage == 1]
    assert [each.value for each in final if each.name == "COPY"] == [
        "--from=build /opt/venv /opt/venv",
        "--from=build /build/app /app",
    ]
    assert not any("gcc" in each.value or "build-essential" in each.value for each in final)


def test_everything_copied_is_let_through_by_dockerignore_and_exists(steps):
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for each in steps if each.name == "COPY" and each.stage == 0 for name in each.value.split()[:-1]}
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_torch_is_installed_at_exactly_the_pinned_version(steps):
    runs = [each.value for each in steps if each.name == "RUN"]
    assert any("grep '^torch==' constraints.txt" in each for each in runs)
    installs = [each for each in runs if 'pip" install' in each and "^pip==" not in each]
    assert installs
    assert all("-c constraints.txt" in each for each in installs)


@pytest.fixture(scope="module")
def image(steps) -> Iterator[Path]:
    """The build stage carried out under a folder instead of in a container: `venv` and `build/app`."""
    place = Path(tempfile.mkdtemp(prefix="plora-image-", dir="/var/tmp"))
    place.chmod(0o755)
    environment = {**os.environ, "VENV": str(place / "venv"), "ACCELERATOR": "cpu", "TORCH_INDEX": ""}
    ignored = shutil.ignore_patterns("site-packages", "test", "__pycache__")
    shutil.copytree(sys.base_prefix, place / "python", symlinks=True, ignore=ignored)  # where everybody may read it
    environment["PATH"] = os.pathsep.join([str(place / "python" / "bin"), environment["PATH"]])
    (place / "build").mkdir()
    for step in steps:
        if step.stage == 0:
            carry_out(step, place / "build", environment)
    subprocess.run(["chmod", "-R", "a-w,a+rX", str(place)], check=True)
    yield place
    subprocess.run(["chmod", "-R", "u+w", str(place)], check=True)
    shutil.rmtree(place)


def carry_out(step: Step, folder: Path, environment: Mapping[str, str]) -> None:
    if step.name == "COPY":
        *sources, target = step.value.split()
        for source in sources:
            to = folder / target / source if target == "./" else folder / target
            to.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
            copy(
                ROOT / source,
                to,
                **({"ignore": shutil.ignore_patterns("__pycache__")} if copy is shutil.copytree else {}),
            )
    elif step.name == "RUN":
        subprocess.run(["sh", "-c", step.value], cwd=folder, env=dict(environment), check=True)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become the image's user")
def test_its_steps_install_a_daemon_that_runs_unprivileged_on_a_read_only_tree(image):
    home = Path(tempfile.mkdtemp(prefix="plora-home-", dir="/var/tmp"))
    os.chown(home, UID, UID)
    environment = {
        "PATH": f"{image / 'venv' / 'bin'}:/usr/bin:/bin",
        "LD_LIBRARY_PATH": str(image / "python" / "lib"),
        "HOME": str(home),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PLORA_DATA_DIR": str(home / "data"),
        "PLORA_KEYS_DIR": str(home / "keys"),
        "PLORA_TRAINER": "in-process",
        "PLORA_PORT": "0",
    }
    before = listing(image)
    daemon = subprocess.Popen(
        [str(image / "venv" / "bin" / "python"), "-m", "daemon", "serve", "--json"],
        cwd=image / "build" / "app",
        env=environment,
        user=UID,
        group=UID,
        extra_groups=[],
        stdout=subprocess.PIPE,
    )
    try:
        assert daemon.stdout is not None
        told = next((line for line in daemon.stdout if line.startswith(b'{"url"')), b"null")
        facts = json.loads(told)
        assert facts, "the daemon ended before it was ready"
        assert httpx.get(f"{facts['url']}/readyz", timeout=START_S, trust_env=False).status_code == 200
        status = Path(f"/proc/{daemon.pid}/status").read_text()
        assert f"Uid:\t{UID}\t{UID}\t{UID}\t{UID}" in status
    finally:
        daemon.terminate()
        assert daemon.wait(60) == 0
        shutil.rmtree(home)
    assert listing(image) == before


def listing(folder: Path) -> dict[str, int]:
    return {str(each): each.stat().st_size for each in folder.rglob("*") if each.is_file()}


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become the image's user")
def test_the_trainers_of_the_image_import_on_a_read_only_tree_and_ray_starts_from_the_same_environment(image):
    """What KubeRay runs in the same image: `ray`, and the import path of the Serve config."""
    python = str(image / "venv" / "bin" / "python")
    told = subprocess.run(
        [python, "-c", "import daemon.trainer as t; print(t.build_trainer.__name__, t.build_predictor.__name__)"],
        cwd=image / "build" / "app",
        env={
            "PATH": "/usr/bin:/bin",
            "LD_LIBRARY_PATH": str(image / "python" / "lib"),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        user=UID,
        group=UID,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout.split() == ["build_trainer", "build_predictor"]
    ray = subprocess.run(
        [python, str(image / "venv" / "bin" / "ray"), "--version"], capture_output=True, text=True, check=True
    )
    pinned = next(line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("ray=="))
    assert ray.stdout.split()[-1] == pinned.removeprefix("ray==")
