"""Brokers behind TLS and passwords, and the command that takes events from them."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from daemon.commands import main
from daemon.ingest.brokers import security_of
from daemon.ingest.choices import IngestChoices, WrongIngest
from daemon.ray_child import free_port
from tests.daemon.ingest.brokers import Door, structured
from tests.daemon.ingest.world import says
from tests.faults.failpoints import ROOT

EVENT = {
    "specversion": "1.0",
    "type": "plora.example.v1",
    "source": "/shop",
    "id": "1",
    "subject": "ann",
    "data": {"text": "text", "label": "good"},
}


@pytest.fixture
def door(tmp_path: Path) -> Door:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    since = datetime(2020, 1, 1, tzinfo=UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(since)
        .not_valid_after(since + timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    door = Door(tmp_path / "door.crt", tmp_path / "door.key")
    door.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    kind = serialization.PrivateFormat.PKCS8
    door.key.write_bytes(private.private_bytes(serialization.Encoding.PEM, kind, plain))
    return door


@pytest.mark.long
@pytest.mark.parametrize("kind", ["redis", "nats"])
def test_a_broker_behind_tls_and_a_password_is_consumed(world, door, kind):
    made = world(kind, door=door)
    word = made.folder / "password"
    word.write_text(door.password)
    word.chmod(0o600)
    made.broker.carry([structured(EVENT)])
    chosen = {"ADDRESS": f"localhost:{made.broker.port}", "TLS": "true", "USERNAME": door.user, "PASSWORD_FILE": word}
    _, stranger = made.start("stranger", **chosen)
    _, port = made.start(CA_FILE=door.certificate, **chosen)
    assert made.settled(1), made.log.read_text()
    assert says(port, "/readyz", 200)
    assert says(stranger, "/readyz", 503, "broker_away"), "its authorities do not know this broker"
    assert door.password not in made.log.read_text()


@pytest.mark.parametrize("kind", [*(pytest.param(each, marks=pytest.mark.long) for each in ("redis", "nats")), "kafka"])
def test_the_command_ends_when_it_is_told_to_though_its_broker_is_nowhere(kind, tmp_path):
    chosen = {"BROKER": kind, "ADDRESS": f"127.0.0.1:{free_port()}", "PORT": str(port := free_port())}
    environ = os.environ | {f"PLORA_INGEST_{name}": value for name, value in chosen.items()}
    command = [sys.executable, "-m", "daemon", "ingest"]
    with subprocess.Popen(command, env=environ, cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        assert says(port, "/readyz", 503, "broker_away")
        assert says(port, "/livez", 200, limit_s=0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_the_command_says_what_to_do_without_a_broker(capsys):
    assert main(["ingest"], {}) == 1
    assert "PLORA_INGEST_BROKER must be kafka, nats or redis" in capsys.readouterr().err


def test_a_file_of_authorities_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(WrongIngest, match="PLORA_INGEST_CA_FILE"):
        security_of(IngestChoices(broker="nats", address="a:1", tls=True, ca_file=tmp_path / "none"))


def test_a_password_is_in_no_repr_of_the_choices(tmp_path):
    word = tmp_path / "password"
    word.write_text("hush")
    os.chmod(word, 0o600)
    choices = IngestChoices(broker="nats", address="a:1", username="ann", password_file=word)
    assert security_of(choices).password == "hush"
    assert "hush" not in repr(choices)
