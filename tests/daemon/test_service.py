"""How the daemon is put together, and what keeps it from starting."""

import json
import pickle
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon import answer_token, batching, client, corrections, errors, predictor, server, trainer_errors, trainers
from daemon import settings as settings_module
from daemon.considering import Considering
from daemon.errors import DaemonError, EventRefused
from daemon.service import assemble, open_keyring
from daemon.settings import Settings
from daemon.trainer_order import TrainerOrder
from storage import KeyFilePermissions, KeyRingMissing, SchemaTooNew, StoreInUse

OURS = {
    each.__name__
    for each in (
        answer_token,
        batching,
        client,
        corrections,
        errors,
        server,
        settings_module,
        trainer_errors,
        trainers,
    )
}
AT = datetime(2031, 1, 1, tzinfo=UTC)


def database(settings: Settings) -> Path:
    return settings.data_dir / "plora.db"


def test_a_start_after_the_first_finds_the_same_keys_and_callers(settings: Settings):
    first = assemble(settings)
    token = first.keyring.ensure_token("host")
    caller = first.parts.store.caller(token, AT)
    first.parts.store.close()
    second = assemble(settings)
    assert second.parts.store.caller(token, AT) == caller
    second.parts.store.close()


def test_a_database_of_a_newer_schema_is_refused(settings: Settings):
    assemble(settings).parts.store.close()
    with sqlite3.connect(database(settings)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("UPDATE compatibility SET oldest = '9999'")
    connection.close()
    with pytest.raises(SchemaTooNew, match="start the newer release"):
        assemble(settings)


def test_a_database_without_its_keys_is_refused_rather_than_given_new_ones(settings: Settings):
    assemble(settings).parts.store.close()
    settings.keys_path.rename(settings.keys_path.with_name("moved"))
    with pytest.raises(KeyRingMissing):
        assemble(settings)


def test_key_files_that_others_can_read_are_refused(settings: Settings):
    open_keyring(settings)
    (settings.keys_path / "transport.key").chmod(0o640)
    with pytest.raises(KeyFilePermissions):
        assemble(settings)


def test_one_database_has_one_daemon(settings: Settings):
    first = assemble(settings)
    with pytest.raises(StoreInUse):
        assemble(settings)
    first.parts.store.close()


def test_without_a_trainer_the_daemon_is_ready_and_says_what_waits(settings: Settings):
    absent = assemble(replace(settings, trainer="ray", trainer_url=None))
    causes = absent.parts.causes()
    assert [(each.code, each.blocking) for each in causes] == [("trainer_down", False)]
    absent.parts.store.close()


def test_a_model_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(trainers.UnusableModel, match=r"no-model.* cannot be used.*PLORA_MODEL"):
        trainers.load_models(TrainerOrder(model=str(tmp_path / "no-model")))


def test_a_model_that_ray_could_not_load_is_named_before_anything_waits_for_it(settings: Settings, tmp_path: Path):
    asked = replace(settings, trainer="ray", trainer_url=None, model=str(tmp_path / "no-model"))
    service = assemble(asked)
    with pytest.raises(trainers.UnusableModel, match="no-model"):
        service.training.warm()
    service.parts.store.close()


def test_a_model_without_targets_is_refused_from_its_configuration_alone(tmp_path: Path):
    sizes = {"dim": 32, "hidden_dim": 32, "n_heads": 2, "n_layers": 1, "vocab_size": 50, "model_type": "distilbert"}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    with pytest.raises(trainers.UnusableModel, match="no linear module named"):
        trainers.check_model(TrainerOrder(model=str(tmp_path)))


def refusals() -> Iterator[DaemonError]:
    yield settings_module.UnknownSetting("PLORA_X", None)
    yield settings_module.InvalidSetting("PLORA_X", "a number")
    yield server.PortTaken("::1", 80, "in use")
    yield trainers.UnusableModel("nobody/nothing", "not found")
    yield client.DaemonAway("http://x")
    yield client.NoToken("http://x")
    yield client.Refused(404, "unknown_user", "no such user")
    yield predictor.NoBasis("t")
    yield trainer_errors.TrainerUnavailable()
    yield trainer_errors.TrainerLacksKey(1)
    yield trainer_errors.TrainerLost()
    yield trainer_errors.TrainerRefused()
    yield trainer_errors.TrainerFailed("ValueError")
    yield trainer_errors.TrainerBusy()
    yield trainer_errors.TrainerRefuses("no_chat_template")
    yield trainer_errors.TrainerRefuses("something new")
    yield answer_token.WrongAnswerToken()
    yield batching.QueueFull(64)
    yield corrections.NoText()
    yield corrections.NobodysAnswer()
    for kind in (
        errors.MalformedEvent,
        errors.EventTooLarge,
        errors.UnsupportedMediaType,
        errors.UnacceptableEvent,
        errors.ForbiddenEvent,
        errors.TooManyEvents,
    ):
        yield kind("code", "a sentence")


def leaves(kind: type[DaemonError]) -> set[type[DaemonError]]:
    below = kind.__subclasses__()
    return set().union(*(leaves(each) for each in below)) if below else {kind}


def test_every_refusal_survives_pickling_and_is_a_sentence():
    found = list(refusals())
    ours = {each for each in leaves(DaemonError) if each.__module__ in OURS}
    assert ours <= {type(each) for each in found}
    for each in found:
        again = pickle.loads(pickle.dumps(each))  # noqa: S301
        assert (type(again), again.args, str(again)) == (type(each), each.args, str(each))
        assert len(str(each)) > 5
        if isinstance(each, EventRefused):
            assert again.status == each.status


def test_many_events_of_a_user_are_one_look_and_an_error_stops_nobody():
    looked: list[str] = []
    gate, begun = threading.Event(), threading.Event()

    def consider(user: str, _: datetime) -> None:
        begun.set()
        gate.wait(10)
        looked.append(user)
        if user == "first":
            raise ValueError(user)

    considering = Considering(consider, lambda: AT)
    considering.start()
    considering.add("first")
    assert begun.wait(10)
    for user in ("bob", "ann", "bob", "ann", "bob"):
        considering.add(user)
    gate.set()
    assert considering.wait_until_idle(10)
    considering.stop()
    assert looked == ["first", "bob", "ann"]
