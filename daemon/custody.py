"""What operators and auditors do with what is kept apart: backups, exported checkpoints, receipts, the public key."""

import json
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path

from daemon import clock
from daemon.errors import DaemonError
from daemon.keyring import TOKENS, open_ring, provider_of
from daemon.migrating import opened
from daemon.settings import Settings
from storage import BackupRefused, BadRecord, KeyRing, Receipt, Stage
from storage import backup as backups
from storage.blobplaces import open_blobs
from storage.blobs import Blobs
from storage.exports import Exports, told
from storage.providers.files import FileKeys
from storage.receipts import genuine
from storage.verifying import Known, agreed, verify

Answer = dict[str, object]


class NotAReceipt(DaemonError):
    """A file that should hold a receipt holds something else."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} is no receipt: give the JSON that DELETE /v1/users/USER answered"


def exports_of(settings: Settings) -> Blobs:
    """The place for exports that `settings` name."""
    return _place(settings, settings.exports_place)


def export_key(settings: Settings) -> Answer:
    """The public key that receipts and exported statements are checked with."""
    return {"algorithm": "Ed25519", "key": open_ring(settings).signer().public.hex()}


def make_keys(settings: Settings, to: Path) -> Answer:
    """Make a whole key ring in an empty directory, from which a Secret is made that daemons mount read-only."""
    provider = FileKeys(to) if settings.keys_provider == "file" else provider_of(settings)
    ring = KeyRing.create(to, provider)
    ring.signer()
    for name in TOKENS:
        ring.ensure_token(name)
    return {
        "keys": str(to.resolve()),
        "files": sorted(path.name for path in to.iterdir()),
        "next": f"kubectl create secret generic plora-keys --from-file={to}; keep a copy apart, then remove {to}",
    }


def next_epoch(settings: Settings, to: Path) -> Answer:
    """Add a key epoch to a ring of files that is kept in a directory, for the Secret that is made of it."""
    if settings.keys_provider != "file":
        raise BadRecord("PLORA_KEYS_PROVIDER", "file: other providers make their epochs themselves, by `keys rotate`")
    epoch = KeyRing.open(to).new_epoch()
    return {
        "epoch": epoch,
        "files": sorted(path.name for path in to.iterdir()),
        "next": "replace the Secret; `keys roll-epoch` a minute later; then take the older kek files out of the Secret",
    }


def back_up(settings: Settings, to: Path) -> Answer:
    """Copy database and blobs; a daemon may go on meanwhile."""
    _need_file(settings)
    target = to.resolve()
    if target.is_relative_to(settings.keys_path.resolve()) or target.is_relative_to(settings.data_dir.resolve()):
        raise BadRecord("--to", "outside of the data and of the keys")
    database, blobs = settings.data_dir / "plora.db", _place(settings, settings.blobs_url or str(settings.blobs_path))
    made = backups.back_up(database, blobs, to, clock.now())
    return {
        "backup": str(target),
        "files": len(made.files),
        "missing": list(made.missing),
        "keys": "not in it: without the key directory nobody can read it, you neither",
    }


def restore(settings: Settings, source: Path) -> Answer:
    """Put a backup back. The next start erases again whoever was erased since it was made."""
    _need_file(settings)
    ring = open_ring(settings)
    exports = Exports(exports_of(settings), ring.signer())
    database, blobs = settings.data_dir / "plora.db", _place(settings, settings.blobs_url or str(settings.blobs_path))
    found = backups.restore(source, database, blobs, exports, clock.now())
    return {"restored": str(database), "files": len(found.files), "next": "start the daemon: it replays erasures first"}


def verify_offline(settings: Settings, exports: str, key: str) -> Answer:
    """Hold a stopped database against exported checkpoints, by the public key alone.

    Without the key ring the chain's head is compared and not authenticated: the checkpoints stand for it.
    """
    public = bytes.fromhex(key) if key else open_ring(settings).signer().public
    statements = told(_place(settings, exports), public)
    with closing(opened(settings)) as database:
        report = verify(database.read, Known(public, statements))
    return {
        "ok": report.ok,
        "entries": report.entries,
        "broken_at": report.broken_at,
        "problem": report.problem or None,
        "checkpoints": report.checkpoints,
        "exported": report.exported,
        "restored": report.restored,
    }


def accept_restore(settings: Settings) -> Answer:
    """State that the stopped database is a backup that was put back; `restore` states it by itself."""
    exports = Exports(exports_of(settings), open_ring(settings).signer())
    with closing(opened(settings)) as database:
        reached = agreed(database.read, exports.told(), clock.now())
    exports.keep_restored(reached)
    return {"accepted": True, "entries": reached.seq}


def verify_receipt(path: Path, key: str) -> Answer:
    """Whether the holder of the public key has signed the receipt in this file."""
    try:
        given = json.loads(path.read_bytes())
        receipt = Receipt(
            user=given["user"],
            stages=tuple(Stage(each["name"], _time(each["at"]), _time(each["due"])) for each in given["stages"]),
            runs=0,
            events=0,
            versions=0,
            tenant=given["tenant"],
            signature=bytes.fromhex(given["signature"]),
        )
        public = bytes.fromhex(key)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise NotAReceipt(str(path)) from problem
    stages: Mapping[str, str] = {each.name: str(each.at or f"due by {each.due}") for each in receipt.stages}
    return {"ok": genuine(public, receipt), "user": receipt.user, **stages}


def _need_file(settings: Settings) -> None:
    if settings.database_url:
        raise BackupRefused("the database", "it is PostgreSQL: use pg_dump or a base backup; docs/erasure.md says how")


def _place(settings: Settings, url: str) -> Blobs:
    return open_blobs(url, endpoint=settings.s3_endpoint, region=settings.s3_region)


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
