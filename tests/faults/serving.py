"""What the children of the kill loops run: a daemon's whole life, its preparation, and the reading after it."""

from collections.abc import Mapping

from daemon import clock
from daemon.learnt import loads
from daemon.server import serve as serve_for_ever
from daemon.service import assemble
from daemon.settings import Settings, load
from storage import Store, Unreadable
from tests.faults import adapters, failpoints


def settings(environ: Mapping[str, str]) -> Settings:
    return load(dict(environ))


def prepare(environ: Mapping[str, str]) -> dict[str, str]:
    """A new daemon's keys, callers and Basis."""
    chosen = settings(environ)
    service = assemble(chosen)
    store = service.parts.store
    now = clock.now()
    [tenant] = store.tenants()
    fingerprint, content = adapters.basis()
    store.open_basis(tenant.id, "main", "", now)
    claimed = store.claim_basis("tests", 60, now)
    store.finish_basis(claimed.id, claimed.epoch, fingerprint, adapters.BASE, content, "{}", now)
    store.close()
    tokens = {name: service.keyring.ensure_token(name) for name in ("host", "operator")}
    return tokens | {"basis": fingerprint, "transport": service.keyring.transport_key().hex()}


def serve(environ: Mapping[str, str], points: Mapping[str, tuple[str, int]]) -> int:
    """A daemon until it is killed."""
    failpoints.arm({name: tuple(action) for name, action in points.items()})
    return serve_for_ever(settings(environ))


def read(environ: Mapping[str, str]) -> dict[str, object]:
    """What only the keys can tell: whether every version opens, and is what the examples it names make."""
    chosen = settings(environ)
    service = assemble(chosen)
    store = service.parts.store
    try:
        return _read(store)
    finally:
        store.close()


def _read(store: Store) -> dict[str, object]:
    unreadable, wrong, checked, events = 0, 0, 0, {}
    for tenant in store.tenants():
        after = ""
        while people := store.users(tenant.id, 500, after):
            after = people[-1].id
            for person in people:
                told = {event.seq: event for event in store.events(person.id)}
                events[store.external_id(person.id)] = sorted(event.content.decode() for event in told.values())
                for version in store.versions(person.id):
                    checked += 1
                    try:
                        opened = store.adapter(person.id, version.version)
                    except Unreadable:
                        unreadable += 1
                        continue
                    wrong += not opened.content.startswith(b"PLA1")
                wrong += not _is_made_of(store, person.id, told)
    report = store.verify_audit()
    return {
        "unreadable": unreadable,
        "wrong": wrong,
        "opened": checked,
        "audit_ok": report.ok,
        "audit_entries": report.entries,
        "events": events,
    }


def _is_made_of(store: Store, user: str, told: Mapping[int, object]) -> bool:
    """Whether the version in use is what the examples that it names give."""
    material = store.materials([user])[user]
    if isinstance(material, Unreadable) or material.current is None or material.statistics is None:
        return not isinstance(material, Unreadable)
    learnt = loads(material.statistics)
    version = material.current.version
    if learnt is None or any(seq > version.watermark_seq or seq not in told for seq in learnt.seqs):
        return False
    import json  # noqa: PLC0415

    examples = [json.loads(told[seq].content) for seq in learnt.seqs]
    pairs = [(each["text"], each["label"]) for each in examples]
    return adapters.adapter_of(version.basis, pairs) == material.current.content
