"""A process that is killed while it forgets a user: python erasing_process.py POINT HOME TENANT USER URL."""

import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.faults import failpoints

failpoints.install()
point, home, tenant, user, url = sys.argv[1], Path(sys.argv[2]), *sys.argv[3:6]
now = datetime(2026, 4, 1, tzinfo=UTC)

from storage import KeyRing, Store  # noqa: E402 - imported with its points
from storage.fileblobs import FileBlobs  # noqa: E402

ring = KeyRing.open(home / "keys")
places = {"blobs": home / "data/blobs", "exports": FileBlobs(home / "export")}
store = Store.open(url, keyring=ring, now=now, clock=lambda given, _: given, **places)
failpoints.arm({point: ("kill", 1)})
store.forget(tenant, user, "operator", now)
store.roll_when_due(now.replace(month=6))
