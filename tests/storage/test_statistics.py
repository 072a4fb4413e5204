# ruff: noqa: S608 -- the test tampers with its own database
"""Statistics lie beside their adapter: sealed like it, told apart from it, gone with it."""

import sqlite3
import subprocess

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine

from storage import Material, Unreadable, schema

SECRET = b"statistics of somebody, as private as their examples. " * 10


def finished(world, user: str, outcome, statistics: bytes | None = SECRET, *, promoted: bool = True):
    run = world.claimed(user)
    made = outcome(promoted=promoted, watermark_seq=world.last_seq(user), statistics=statistics)
    return world.store.finish_run(run.id, run.epoch, made, world.now)


def material(world, user: str) -> Material | Unreadable:
    return world.store.materials([user])[user]


def test_the_statistics_of_the_current_version_come_back_with_it_and_nowhere_else(world, outcome):
    user = world.user("alice")
    made = finished(world, user, outcome)
    assert material(world, user).statistics == SECRET
    assert material(world, user).current.version == made
    assert world.store.current_adapter(user).content == outcome().adapter
    assert world.store.adapter(user, 1).content == outcome().adapter
    assert made.size_bytes < 800  # the size that hosts are told is the adapter's


def test_a_version_without_statistics_has_none_and_its_predecessors_are_not_taken(world, outcome):
    user = world.user("alice")
    finished(world, user, outcome)
    finished(world, user, outcome, statistics=None)
    assert material(world, user).statistics is None


def test_rolling_back_brings_the_earlier_statistics_back(world, outcome):
    user = world.user("alice")
    finished(world, user, outcome)
    finished(world, user, outcome, statistics=b"later")
    world.store.rollback(user, None, "operator", world.now)
    assert material(world, user).statistics == SECRET


@pytest.mark.parametrize(
    "change",
    [
        "statistics_sealed = adapter_sealed",
        "adapter_sealed = statistics_sealed",
        "adapter_sealed = statistics_sealed, statistics_sealed = adapter_sealed",
        "statistics_sealed = substr(statistics_sealed, 1, length(statistics_sealed) - 1)",
        "version = 2",
        "epoch = 9",
        "basis = 'other'",
    ],
)
def test_statistics_in_another_place_do_not_open(world, outcome, change):
    user = world.user("alice")
    finished(world, user, outcome)
    world.sql(f"UPDATE versions SET {change}")
    assert isinstance(material(world, user), Unreadable)


def test_the_statistics_of_another_user_do_not_open_and_harm_nobody_else(world, outcome):
    alice, bob = world.user("alice"), world.user("bob")
    for user in (alice, bob):
        finished(world, user, outcome)
    of_bob = f"SELECT statistics_sealed FROM versions WHERE user = '{bob}'"
    world.sql(f"UPDATE versions SET statistics_sealed = ({of_bob}) WHERE user = '{alice}'")
    found = world.store.materials([alice, bob])
    assert isinstance(found[alice], Unreadable)
    assert found[bob].statistics == SECRET


def test_two_seals_of_the_same_statistics_share_nothing(world, outcome):
    alice, bob = world.user("alice"), world.user("bob")
    for user in (alice, bob):
        finished(world, user, outcome)
    one, two = (row[0] for row in world.sql("SELECT statistics_sealed FROM versions"))
    assert not {one[at : at + 16] for at in range(188, len(one) - 15)} & {two[at : at + 16] for at in range(188, 700)}


def bytes_on_disk(world) -> bytes:
    files = ["find", world.data, "-type", "f", "-exec", "cat", "{}", "+"]
    return subprocess.run(files, capture_output=True, check=True).stdout


def left(world, secret: bytes) -> bool:
    """Whether any 16 bytes of `secret` are in any file."""
    disk = bytes_on_disk(world)
    return any(secret[at : at + 16] in disk for at in range(len(secret) - 15))


def test_forgetting_leaves_no_window_of_statistics_and_no_key_to_them(world, outcome):
    assert world.database.exists()
    alice, bob = world.user("alice"), world.user("bob")
    for user in (alice, bob):
        finished(world, user, outcome)
        finished(world, user, outcome)
    keys = dict(world.sql("SELECT owner, wrapped FROM data_keys"))
    assert left(world, keys[alice])  # the test can see a key
    assert not left(world, SECRET)
    assert world.store.forget(world.tenant, "alice", "operator", world.later()).complete
    assert not left(world, keys[alice])
    assert not left(world, SECRET)
    assert material(world, alice) == Material()
    assert world.sql("SELECT count(*) FROM versions WHERE statistics_sealed IS NOT NULL") == [(2,)]
    assert material(world, bob).statistics == SECRET


def test_statistics_go_with_their_version(world, outcome):
    assert world.database.exists()
    user = world.user("alice")
    finished(world, user, outcome)
    finished(world, user, outcome)
    [(sealed,)] = world.sql("SELECT statistics_sealed FROM versions WHERE version = 1")
    assert left(world, sealed[188:])
    world.store.delete_versions(user, [1], world.later())
    world.store.scrub(world.now)
    assert not left(world, sealed[188:])


def test_no_statistics_show_in_a_repr(world, outcome):
    user = world.user("alice")
    finished(world, user, outcome)
    assert "somebody" not in repr(material(world, user))
    assert "somebody" not in repr(outcome(statistics=SECRET))


def test_a_database_of_the_first_schema_is_migrated_with_all_it_holds(world, outcome):
    user = world.user("alice")
    made = finished(world, user, outcome, statistics=None)
    events = world.store.events(user)
    world.store.close()
    newer = world.database.rename(world.database.with_name("newer.db"))
    first_schema(world.database)
    connection = sqlite3.connect(world.database, isolation_level=None)
    connection.execute(f"ATTACH '{newer}' AS newer")
    for (table,) in connection.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'").fetchall():
        if table != "alembic_version" and not table.startswith("sqlite_"):
            columns = ", ".join(f'"{row[1]}"' for row in connection.execute(f"PRAGMA main.table_info({table})"))
            connection.execute(f"INSERT INTO main.{table} ({columns}) SELECT {columns} FROM newer.{table}")
    connection.close()
    newer.unlink()
    world.store = world.open()
    assert world.store.health(world.now).schema_revision == "0005"
    assert world.store.events(user) == events
    assert material(world, user).current.version == made
    assert material(world, user).statistics is None
    assert world.store.verify_audit().ok
    finished(world, user, outcome)
    assert material(world, user).statistics == SECRET


def first_schema(path) -> None:
    """A new database at revision 0001."""
    config = Config()
    config.set_main_option("script_location", str(schema.MIGRATIONS))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
    engine.dispose()
