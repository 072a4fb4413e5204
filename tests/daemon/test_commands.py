"""The command line against a daemon that runs as a process, and against none."""

import argparse
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from daemon.command_line import AWAY, DONE, REFUSED
from daemon.commands import main, parser

NOWHERE = "http://127.0.0.1:9"  # these tests need no trainer
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Shell:
    """Runs `python -m daemon` with an environment of its own."""

    folder: Path
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PLORA_")}
        own = {"PLORA_DATA_DIR": str(self.folder / "data"), "PLORA_PORT": "0", "PLORA_TRAINER_URL": NOWHERE}
        return clean | own | self.more

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "daemon", *arguments]
        return subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "daemon", "serve", "--json"]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, env=self.environment, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shell, subprocess.Popen[str]]]:
    shell = Shell(tmp_path_factory.mktemp("daemon"), {"PLORA_DEFAULT_CONSENT": "true"})
    process = shell.start()
    line = process.stdout.readline()
    if not line:
        pytest.fail(process.stderr.read())
    shell.more["PLORA_URL"] = json.loads(line)["url"]
    yield shell, process
    process.kill()
    process.wait()


def token(shell: Shell, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {(shell.folder / 'data-keys' / f'{name}.token').read_text().strip()}"}


def test_the_first_start_makes_keys_and_tokens_for_nobody_else(daemon):
    keys = daemon[0].folder / "data-keys"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700
    files = {path.name: stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()}
    assert {"host.token", "operator.token", "transport.key"} <= set(files)
    assert set(files.values()) == {0o600}


def test_every_command_asks_the_running_daemon(daemon, event, capsys: pytest.CaptureFixture[str]):
    shell = daemon[0]
    url, user = shell.more["PLORA_URL"], "zoë 100%2F"
    sent = token(shell, "host") | {"Content-Type": "application/cloudevents+json"}
    assert httpx.post(f"{url}/v1/events", json=event(user=user), headers=sent).status_code == 202

    def ask(*arguments: str) -> dict[str, object]:
        assert main([*arguments, "--json"], shell.environment) == 0
        return json.loads(capsys.readouterr().out)

    (listed,) = ask("users")["users"]
    assert ask("users", user)["user"] == listed["user"]
    assert ask("runs", "--state", "queued") == {"runs": []}
    assert ask("runs", "dead-letter", "list", "--after", "3") == {"runs": []}
    assert ask("runs", "dead-letter", "retry", "--all") == {"retried": []}
    assert main(["runs", "dead-letter", "retry", "7"], shell.environment) == 1
    assert "404 unknown_dead_letter" in capsys.readouterr().err
    assert ask("basis", "train", "--name", "first")["name"] == "first"
    assert ask("basis", "list")["bases"][0]["name"] == "first"
    assert ask("keys", "rotate")["epoch"] == 2
    assert [each["state"] for each in ask("keys", "status")["epochs"]] == ["enabled", "primary"]
    assert ask("keys", "roll-epoch")["destroyed"] == [1, 2]
    assert ask("keys", "status")["transport"] == [1, 2, 3]
    assert ask("audit", "verify")["ok"] is True
    assert ask("status")["ok"] is True
    assert ask("pause", "ingest")["paused"][0]["name"] == "ingest"
    assert httpx.post(f"{url}/v1/events", json=event(user=user), headers=sent).json()["code"] == "ingest_paused"
    assert ask("resume", "ingest") == {"paused": [], "changed": True}
    assert ask("explain", user)["next"]["code"] == "no_basis"
    assert ask("replay", user) == {"users": 1}
    assert ask("replay", "--since", "2020-01-01T00:00:00Z") == {"users": 1}
    assert main(["replay", "--since", "yesterday"], shell.environment) == 1
    assert capsys.readouterr().err
    assert main(["users"], shell.environment) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["user", "state", "consented", "created_at"]
    assert ask("forget", user)["complete"] is True
    assert main(["rollback", user], shell.environment) == 1
    assert capsys.readouterr().err == "plora: this tenant has no such user (404 unknown_user)\n"


def test_a_second_daemon_on_the_same_data_is_refused(daemon):
    second = daemon[0].run("serve")
    assert second.returncode == 1
    assert "locked by a running daemon" in second.stderr
    assert "Traceback" not in second.stderr


def test_a_drained_daemon_goes_on_answering_and_its_status_is_1(daemon, capsys: pytest.CaptureFixture[str]):
    shell = daemon[0]
    assert main(["drain", "--json"], shell.environment) == 0
    assert json.loads(capsys.readouterr().out)["draining"] is True
    assert main(["status", "--json"], shell.environment) == 1
    assert json.loads(capsys.readouterr().out)["causes"][0]["code"] == "draining"
    assert main(["users"], shell.environment) == 0
    assert capsys.readouterr().out


def test_sigterm_ends_it_cleanly_and_its_log_named_nobody(daemon, capsys: pytest.CaptureFixture[str]):
    shell, process = daemon
    assert httpx.get(f"{shell.more['PLORA_URL']}/livez").text == "ok\n"
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=30)
    assert process.returncode == 0, log
    assert "action=ready" in log
    assert "action=stopped" in log
    assert "zo" not in log.lower().replace("zone", "")
    assert main(["users"], shell.environment) == 2
    assert "no daemon answers at http://127.0.0.1:" in capsys.readouterr().err


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines()[-1].startswith("plora: ")
    assert "Traceback" not in done.stderr
    return done.stderr


def test_an_unknown_setting_is_one_sentence(shell: Shell, capsys: pytest.CaptureFixture[str]):
    shell.more["PLORA_PROT"] = "1"
    assert main(["serve"], shell.environment) == 1
    assert "PLORA_PROT is set, but no such setting exists; did you mean PLORA_PORT?" in capsys.readouterr().err


def test_a_taken_port_is_one_sentence(shell: Shell):
    with socket.create_server(("127.0.0.1", 0)) as other:
        shell.more["PLORA_PORT"] = str(other.getsockname()[1])
        assert "cannot listen on 127.0.0.1" in one_sentence(shell.run("serve"))
    assert not (shell.folder / "data").exists()


def test_keys_that_others_can_read_are_refused(shell: Shell):
    keys = shell.folder / "data-keys"
    keys.mkdir(mode=0o755)
    assert "mode 0700" in one_sentence(shell.run("serve"))


def test_a_command_without_keys_says_where_it_looked(shell: Shell, capsys: pytest.CaptureFixture[str]):
    assert main(["users"], shell.environment) == AWAY
    assert "data-keys" in capsys.readouterr().err


def test_a_key_ring_is_made_for_a_secret_and_never_over_another(shell: Shell, capsys: pytest.CaptureFixture[str]):
    folder = shell.folder / "secret"
    assert main(["keys", "make", "--to", str(folder), "--json"], shell.environment) == 0
    files = ["audit.key", "host.token", "kek-0000000001.key", "operator.token", "signing.key", "transport.key"]
    assert json.loads(capsys.readouterr().out)["files"] == files
    assert main(["keys", "make", "--to", str(folder)], shell.environment) == 1
    assert "already holds a key ring" in capsys.readouterr().err


def test_migrate_needs_no_daemon_and_its_check_is_an_exit_status(shell: Shell, capsys: pytest.CaptureFixture[str]):
    assert main(["migrate", "--check", "--json"], shell.environment) == 1
    assert "python -m daemon migrate" in json.loads(capsys.readouterr().out)["problem"]
    assert not (shell.folder / "data").exists()
    for changed in (True, False):
        assert main(["migrate", "--json"], shell.environment) == 0
        assert json.loads(capsys.readouterr().out)["changed"] is changed
    assert main(["migrate", "--check"], shell.environment) == 0
    assert capsys.readouterr().out.startswith("ok: true")


def test_config_check_masks_what_is_secret_and_names_what_is_wrong(shell: Shell, capsys: pytest.CaptureFixture[str]):
    shell.more |= {"PLORA_S3_ENDPOINT": "https://me:canary@there/x?sig=canary", "PLORA_TICK_S": "2"}
    assert main(["config", "check", "--json"], shell.environment) == 0
    text = capsys.readouterr().out
    told = json.loads(text)
    assert "canary" not in text
    assert told["settings"]["PLORA_S3_ENDPOINT"] == "https://me:***@there/x?***"
    assert told["settings"]["PLORA_TICK_S"] == 2
    assert not (shell.folder / "data").exists()
    shell.more["PLORA_DATABASE_URL"] = "postgresql://plora:canary@127.0.0.1:9/plora"
    (shell.folder / "data-keys").mkdir(mode=0o755)
    assert main(["config", "check", "--json"], shell.environment) == 1
    text = capsys.readouterr().out
    assert "canary" not in text
    findings = json.loads(text)["findings"]
    assert "mode 0700" in findings["keys"]
    assert "does not answer" in findings["database"]
    assert findings["data"] == "ok"


def names(parser: argparse.ArgumentParser, before: str = "") -> Iterator[str]:
    """Every command, with the words before it."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield f"{before}{name}"
                yield from names(inner, f"{before}{name} ")


def test_every_command_and_exit_status_is_documented():
    text = (ROOT / "docs" / "commands.md").read_text()
    told = {word for quoted in re.findall(r"`([^`]+)`", text) for word in re.split(r"[ |\\]+", quoted)}
    for name in names(parser()):
        assert set(name.split()) <= told, name
    assert all(f"| {status} |" in text for status in (DONE, REFUSED, AWAY, 130))


def test_a_wrong_command_line_is_status_2(shell: Shell, capsys: pytest.CaptureFixture[str]):
    for arguments in (["serve", "--fast"], [], ["keys"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments, shell.environment)
        assert ended.value.code == 2
    assert "usage: python -m daemon" in capsys.readouterr().err
