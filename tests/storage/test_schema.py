"""Schemas: those of earlier releases are migrated, those of later ones opened where they say so."""

import pytest

from storage import SchemaTooNew


def test_a_newer_schema_opens_when_it_says_that_this_release_may(world):
    """So that daemons can be replaced one by one."""
    world.user("alice")
    world.sql("UPDATE alembic_version SET version_num = '0006'", "UPDATE compatibility SET oldest = '0003'")
    assert len(world.store.users(world.tenant)) == 1
    assert world.record(world.event("alice"))[0].seq
    assert world.sql("SELECT version_num FROM alembic_version") == [("0006",)]


def test_a_newer_schema_that_needs_newer_code_is_refused(world):
    with pytest.raises(SchemaTooNew, match="9999"):
        world.sql("UPDATE alembic_version SET version_num = '9999'", "UPDATE compatibility SET oldest = '9999'")
    with pytest.raises(SchemaTooNew):
        world.open()
    world.store = None


def test_what_serves_at_the_upgrade_has_served_since_it_was_made(world):
    ann, bob = world.user("ann"), world.user("bob")
    world.finished(ann)
    made = world.now
    world.later(60)
    second = world.finished(ann)
    world.finished(bob, promoted=False)
    world.sql(
        *(f"DROP TABLE {table}" for table in ("moves", "rollouts", "outcomes")),
        "UPDATE alembic_version SET version_num = '0004'",
    )
    assert world.sql("SELECT version_num FROM alembic_version") == [("0005",)]
    [move] = world.store.moves(world.tenant)
    assert (move.at, move.cause, move.revoked) == (second.created_at, "promote", None)
    world.later()
    world.finished(ann)
    assert world.store.roll_back_all(world.tenant, second.created_at, "op", world.later()) == 1
    assert world.store.current_version(ann).version == second.version
    assert world.store.roll_back_all(world.tenant, made, "op", world.later()) == 1  # nothing is known of that time
    assert world.store.current_version(ann) is None
