"""Schemas: those of earlier releases are migrated, those of later ones opened where they say so."""

import pytest

from storage import SchemaTooNew


def test_a_newer_schema_opens_when_it_says_that_this_release_may(world):
    """So that daemons can be replaced one by one."""
    world.user("alice")
    world.sql("UPDATE alembic_version SET version_num = '0005'", "UPDATE compatibility SET oldest = '0003'")
    assert len(world.store.users(world.tenant)) == 1
    assert world.record(world.event("alice"))[0].seq
    assert world.sql("SELECT version_num FROM alembic_version") == [("0005",)]


def test_a_newer_schema_that_needs_newer_code_is_refused(world):
    with pytest.raises(SchemaTooNew, match="9999"):
        world.sql("UPDATE alembic_version SET version_num = '9999'", "UPDATE compatibility SET oldest = '9999'")
    with pytest.raises(SchemaTooNew):
        world.open()
    world.store = None
