"""Erasures over HTTP and on the command line: receipts, backups, and an audit log that an auditor can check alone."""

import json
import shutil
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from daemon.api.custody_schemas import ReceiptView
from daemon.commands import main
from daemon.duties import Duties
from daemon.service import assemble
from storage import Receipt, Stage
from storage.receipts import genuine


class Hands:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def gone(world, event):
    """A daemon that has forgotten `ann` and knows `bob`."""
    for user in ("ann", "bob"):
        world.post(event(user=user))
    world.client.delete("/v1/users/ann", headers=world.token())
    return world


def receipt_of(answer: dict) -> Receipt:
    view = ReceiptView.model_validate(answer)
    stages = tuple(Stage(each.name, each.at, each.due) for each in view.stages)
    return Receipt(view.user, stages, 0, 0, 0, view.tenant, bytes.fromhex(view.signature))


def test_the_receipt_of_an_erasure_is_signed(gone):
    answer = gone.client.get("/v1/users/ann/erasure", headers=gone.token())
    assert answer.status_code == 200
    receipt = receipt_of(answer.json())
    names = ["fenced", "key_destroyed", "rows_deleted", "scrubbed", "epoch_rolled"]
    assert [stage.name for stage in receipt.stages] == names
    assert (answer.json()["complete"], answer.json()["final"]) == (True, False)
    assert receipt.stages[-1].due - receipt.stages[0].at == timedelta(days=7)
    assert genuine(gone.service.keyring.signer().public, receipt)


@pytest.mark.parametrize("user", ["bob", "nobody"])
def test_who_was_never_forgotten_has_no_receipt(gone, user):
    answer = gone.client.get(f"/v1/users/{user}/erasure", headers=gone.token())
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_erasure")


def test_erasures_are_for_those_who_may_forget_and_the_list_for_operators(gone):
    assert gone.client.get("/v1/users/ann/erasure").status_code == 401
    reader = gone.caller("adapters:read")
    assert gone.client.get("/v1/users/ann/erasure", headers=reader).status_code == 403
    assert gone.client.get("/v1/erasures", headers=gone.token()).status_code == 403
    listed = gone.client.get("/v1/erasures", headers=gone.token("operator")).json()["erasures"]
    assert len(listed) == 1
    assert "ann" not in json.dumps(listed)


def test_another_tenant_sees_nothing_of_it(gone):
    store = gone.service.parts.store
    other = gone.caller("users:admin", tenant=store.ensure_tenant("other", gone.service.parts.now()).id)
    assert gone.client.get("/v1/users/ann/erasure", headers=other).status_code == 404


def test_health_says_that_exports_are_away(gone, event):
    shutil.rmtree(gone.service.parts.settings.exports_place)
    assert gone.client.delete("/v1/users/bob", headers=gone.token()).json()["complete"]
    ready = gone.client.get("/readyz")
    assert ready.status_code == 200
    assert "exports_away" in {cause["code"] for cause in ready.json()["causes"]}


def test_the_duties_sign_the_log_each_minute_and_at_the_end(gone):
    store, hands, now = gone.service.parts.store, Hands(), gone.service.parts.now()
    duties = Duties(store, hands)
    assert duties.due()
    duties.look(now)
    assert store.verify_audit().exported == 1
    assert not duties.due()
    hands.at += 5
    store.record_audit(None, "test", "x", "y", "z", now)
    duties.look(now + timedelta(seconds=59))
    assert store.verify_audit().exported == 1
    duties.look(now + timedelta(seconds=61))
    assert store.verify_audit().exported == 2
    store.record_audit(None, "test", "x", "y", "z", now)
    duties.end(now + timedelta(seconds=62))
    assert store.verify_audit().exported == 3


def test_the_duties_roll_the_epoch_and_export_what_waited(gone):
    store, now = gone.service.parts.store, gone.service.parts.now()
    place = gone.service.parts.settings.exports_place
    shutil.rmtree(place)
    gone.client.delete("/v1/users/bob", headers=gone.token())
    assert store.unexported() == 1
    Path(place).mkdir(mode=0o700)
    Duties(store, Hands()).keep_up(now + timedelta(days=8))
    assert store.unexported() == 0
    final = gone.client.get("/v1/users/ann/erasure", headers=gone.token()).json()
    assert final["final"]
    assert genuine(gone.service.keyring.signer().public, receipt_of(final))


def shell(settings, *arguments: str) -> int:
    environ = {"PLORA_DATA_DIR": str(settings.data_dir), "PLORA_KEYS_DIR": str(settings.keys_dir)}
    return main([*arguments, "--json"], environ)


def said(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def test_an_auditor_needs_database_exports_and_public_key(gone, capsys, tmp_path):
    settings = gone.service.parts.settings
    gone.service.parts.store.checkpoint_audit(gone.service.parts.now())
    assert shell(settings, "audit", "export-key") == 0
    key = said(capsys)["key"]
    assert shell(settings, "audit", "verify", "--exports", settings.exports_place, "--key", key) == 1  # it is running
    copy = tmp_path / "copy"
    shutil.copytree(settings.data_dir, copy, ignore=shutil.ignore_patterns("*.lock"))
    capsys.readouterr()
    without_keys = replace(settings, data_dir=copy, keys_dir=tmp_path / "no-keys")
    assert shell(without_keys, "audit", "verify", "--exports", settings.exports_place, "--key", key) == 0
    report = said(capsys)
    assert (report["ok"], report["exported"]) == (True, 1)
    assert shell(without_keys, "audit", "verify", "--exports", settings.exports_place, "--key", "00" * 32) == 1
    assert said(capsys)["problem"] == "checkpoint"


def test_an_older_copy_is_found_until_an_operator_states_that_it_was_restored(gone, event, capsys, tmp_path):
    settings, store = gone.service.parts.settings, gone.service.parts.store
    now = gone.service.parts.now()
    store.checkpoint_audit(now)
    older = tmp_path / "older"
    shutil.copytree(settings.data_dir, older, ignore=shutil.ignore_patterns("*.lock"))
    gone.client.delete("/v1/users/bob", headers=gone.token())
    store.checkpoint_audit(now + timedelta(microseconds=1))
    elsewhere = replace(settings, data_dir=older)
    shutil.copytree(settings.exports_place, elsewhere.exports_place)
    assert shell(elsewhere, "audit", "verify", "--exports", elsewhere.exports_place) == 1
    assert said(capsys)["problem"] == "truncated"
    assert shell(elsewhere, "audit", "accept-restore") == 0
    assert said(capsys)["accepted"]
    assert shell(elsewhere, "audit", "verify", "--exports", elsewhere.exports_place) == 0
    assert said(capsys)["restored"] == 1


def test_a_receipt_is_checked_by_the_public_key_alone(gone, capsys, tmp_path):
    settings = gone.service.parts.settings
    answer = gone.client.get("/v1/users/ann/erasure", headers=gone.token()).json()
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(answer))
    key = gone.service.keyring.signer().public.hex()
    assert shell(settings, "erasures", "verify", str(file), "--key", key) == 0
    assert said(capsys)["ok"]
    later = (datetime.fromisoformat(answer["stages"][0]["at"]) + timedelta(days=1)).isoformat()
    answer["stages"][0]["at"] = later
    file.write_text(json.dumps(answer))
    assert shell(settings, "erasures", "verify", str(file), "--key", key) == 1
    assert not said(capsys)["ok"]
    file.write_text("[]")
    assert shell(settings, "erasures", "verify", str(file), "--key", key) == 1
    assert "no receipt" in capsys.readouterr().err


def test_backup_and_restore_by_command(world, event, capsys, tmp_path):
    world.post(event(user="bob"))
    settings = world.service.parts.settings
    world.service.parts.store.checkpoint_audit(world.service.parts.now())
    assert shell(settings, "backup", "--to", str(tmp_path / "backup")) == 0
    assert "keys" in said(capsys)
    assert shell(settings, "backup", "--to", str(settings.data_dir / "inside")) == 1
    assert shell(settings, "restore", "--from", str(tmp_path / "backup")) == 1
    assert "a database is there" in capsys.readouterr().err
    world.client.delete("/v1/users/bob", headers=world.token())
    elsewhere = replace(settings, data_dir=tmp_path / "data2")
    shutil.copytree(settings.exports_place, elsewhere.exports_place)
    assert shell(elsewhere, "restore", "--from", str(tmp_path / "backup")) == 0
    with_it = assemble(elsewhere)
    try:
        store = with_it.parts.store
        assert store.user(world.tenant, "bob").state.value == "forgotten"
        assert store.verify_audit().ok
    finally:
        store.close()
