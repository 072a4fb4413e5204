# ruff: noqa: S608 -- the test tampers with its own database

import pytest


def filled(world, count=6):
    for number in range(count):
        world.store.record_audit(world.tenant, "operator", "adapter.read", f"object-{number}", "allowed", world.later())
    return world.store.verify_audit().entries


def test_an_untouched_log_verifies(world):
    entries = filled(world)
    report = world.store.verify_audit()
    assert (report.ok, report.broken_at, report.entries) == (True, None, entries)
    world.reopen()
    assert world.store.verify_audit().entries == entries


@pytest.mark.parametrize("column", ["at", "tenant", "actor", "action", "object", "outcome", "prev", "hash", "seq"])
def test_an_edited_entry_is_found(world, column):
    filled(world)
    nothing = "zeroblob(32)" if world.url is None else f"decode('{bytes(32).hex()}', 'hex')"
    value = {"at": "at + 1", "prev": nothing, "hash": nothing, "seq": "99"}.get(column, "'changed'")
    world.sql(f"UPDATE audit SET {column} = {value} WHERE seq = 4")
    report = world.store.verify_audit()
    assert (report.ok, report.broken_at) == (False, 4)


@pytest.mark.parametrize("seq", range(1, 8))
def test_a_deleted_entry_is_found_also_the_last_one(world, seq):
    assert filled(world) == 7
    world.sql(f"DELETE FROM audit WHERE seq = {seq}")
    report = world.store.verify_audit()
    assert (report.ok, report.broken_at) == (False, seq)


def test_swapped_entries_are_found(world):
    filled(world)
    world.sql(
        "UPDATE audit SET seq = -3 WHERE seq = 3",
        "UPDATE audit SET seq = 3 WHERE seq = 4",
        "UPDATE audit SET seq = 4 WHERE seq = -3",
    )
    assert not world.store.verify_audit().ok


def test_an_inserted_entry_is_found(world):
    entries = filled(world)
    columns = "at, tenant, actor, action, object, outcome, prev, hash"
    world.sql(f"INSERT INTO audit (seq, {columns}) SELECT {entries + 1}, {columns} FROM audit WHERE seq = {entries}")
    report = world.store.verify_audit()
    assert (report.ok, report.broken_at) == (False, entries + 1)


def test_an_emptied_log_is_found(world):
    filled(world)
    world.sql("DELETE FROM audit")
    assert not world.store.verify_audit().ok


def test_a_log_without_its_head_is_found(world):
    filled(world)
    world.sql("DELETE FROM audit_head")
    assert not world.store.verify_audit().ok


def test_a_chain_written_anew_without_the_key_is_found(world, new_world):
    filled(world)
    other = new_world()
    filled(other, 3)
    columns = "seq, at, tenant, actor, action, object, outcome, prev, hash"
    rows = other.sql(f"SELECT {columns} FROM audit ORDER BY seq")
    heads = other.sql("SELECT seq, hash, mac FROM audit_head")

    def literal(value):
        if not isinstance(value, bytes):
            return repr(value)
        return f"x'{value.hex()}'" if world.url is None else f"decode('{value.hex()}', 'hex')"

    world.sql(
        "DELETE FROM audit",
        *(f"INSERT INTO audit ({columns}) VALUES ({', '.join(map(literal, row))})" for row in rows),
        f"UPDATE audit_head SET (seq, hash, mac) = ({', '.join(map(literal, heads[0]))})",
    )
    assert not world.store.verify_audit().ok


def test_the_log_tells_what_happened_and_to_which_internal_id(world):
    user = world.user("alice@example.com")
    world.finished(user)
    world.finished(user, promoted=False)
    world.store.rollback(user, 0, "operator", world.now)
    world.store.forget(world.tenant, "alice@example.com", "operator", world.now)
    told = [row[0] for row in world.sql(f"SELECT action FROM audit WHERE object = '{user}' ORDER BY seq")]
    assert told == ["consent.set", "version.promote", "version.reject", "version.rollback", "user.forget"]
    everything = " ".join(str(row) for row in world.sql("SELECT * FROM audit"))
    assert "alice" not in everything
    assert world.store.verify_audit().ok
