"""Migrating apart from any daemon, and a daemon that waits for it: real processes on a real PostgreSQL."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psycopg
import pytest

from daemon.ray_child import free_port
from storage import SchemaBehind, StoreBusy, schema
from storage.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]
PATIENT_S = 60.0


@pytest.fixture
def empty(server):
    url = server.make(migrated=False)
    yield url
    server.drop(url)


def plora(folder: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PLORA_", "PG"))}
    own = {"PLORA_DATA_DIR": str(folder / "data"), "PLORA_PORT": "0", "PLORA_TRAINER_URL": "http://127.0.0.1:9"}
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "daemon", *arguments]
    return subprocess.Popen(command, env=clean | own | more, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def test_two_at_once_migrate_once_and_both_are_done(empty, tmp_path):
    both = [plora(tmp_path, "migrate", "--json", PLORA_DATABASE_URL=empty) for _ in range(2)]
    said = [json.loads(each.communicate(timeout=PATIENT_S)[0]) for each in both]
    assert [each.returncode for each in both] == [0, 0]
    assert {each["to"] for each in said} == {schema.newest()}
    assert not (tmp_path / "data").exists()  # neither keys nor data are needed


def test_the_parts_of_an_address_come_from_libpqs_own_variables(empty, tmp_path):
    address = psycopg.conninfo.conninfo_to_dict(empty)
    parts = {"PGHOST": address["host"], "PGUSER": address["user"], "PGDATABASE": address["dbname"]}
    if "port" in address:
        parts["PGPORT"] = address["port"]
    checked = plora(tmp_path, "migrate", "--check", "--json", PLORA_DATABASE_URL="postgresql://", **parts)
    said = json.loads(checked.communicate(timeout=PATIENT_S)[0])
    assert (checked.returncode, said["ok"], said["schema"]) == (1, False, None)
    assert "python -m daemon migrate" in said["problem"]


def test_a_daemon_that_may_not_migrate_is_alive_and_waits(empty, tmp_path):
    port = str(free_port())
    daemon = plora(tmp_path, "serve", PLORA_DATABASE_URL=empty, PLORA_DATABASE_MIGRATE="never", PLORA_PORT=port)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5, trust_env=False) as http:
            ready = _once(http, "/readyz", lambda answer: "schema_behind" in answer.text)
            assert ready.status_code == 503
            assert schema.newest() in ready.json()["causes"][0]["detail"]
            assert [http.get(path).status_code for path in ("/livez", "/startupz")] == [200, 200]
            assert http.post("/v1/events", json={}).json()["code"] == "schema_behind"
            database = Postgres(empty)
            database.migrate(schema.upgrade)
            database.close()
            told = _once(http, "/readyz", lambda answer: answer.status_code == 200).json()
            assert told["ready"] is True
            assert http.get("/startupz").status_code == 200
    finally:
        daemon.terminate()
        daemon.communicate(timeout=PATIENT_S)
    assert daemon.returncode == 0


def test_an_older_schema_is_named_and_left_alone(postgres):
    database = Postgres(postgres)
    try:
        with database.write() as writing:
            writing.connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0003'")
        with database.read() as connection, pytest.raises(SchemaBehind, match="schema '0003'"):
            schema.need(connection)
        with database.read() as connection:
            assert schema.revision(connection) == "0003"
    finally:
        database.close()


def test_a_table_that_somebody_holds_is_not_waited_for_at_length(empty):
    """Behind a waiting ALTER TABLE every statement of the running daemons would wait."""
    database = Postgres(empty)
    database.migrate(schema.upgrade)
    holding, free = threading.Event(), threading.Event()

    def hold() -> None:
        with database.read() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM users").all()
            holding.set()
            free.wait(PATIENT_S)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert holding.wait(PATIENT_S)
        began = time.monotonic()
        with pytest.raises(StoreBusy):
            database.migrate(lambda connection: connection.exec_driver_sql("ALTER TABLE users ADD COLUMN more int"))
        assert time.monotonic() - began < 6
    finally:
        free.set()
        thread.join()
        database.close()


def _once(http: httpx.Client, path: str, holds) -> httpx.Response:
    until = time.monotonic() + PATIENT_S
    while True:
        try:
            answer = http.get(path)
            if holds(answer):
                return answer
        except httpx.TransportError:
            answer = None
        assert time.monotonic() < until, answer and answer.text
        threading.Event().wait(0.1)
