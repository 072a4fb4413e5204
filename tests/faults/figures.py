"""Where fault suites leave what they saw: one JSON file, PLORA_RELIABILITY, by default var/reliability.json."""

import fcntl
import json
import os
from datetime import UTC, datetime
from pathlib import Path

CHOSEN = "PLORA_RELIABILITY"


def record(figure: str, seed: int, **values: float | str | bool) -> None:
    """Print and keep the values of one acceptance figure, such as A1; `full` tells a long run from a short one."""
    print(json.dumps({"figure": figure, "seed": seed, **values}))
    path = Path(os.environ.get(CHOSEN) or "var/reliability.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        kept = json.loads(path.read_text()) if path.exists() else {}
        kept[figure] = {"at": datetime.now(UTC).date().isoformat(), "seed": seed, **values}  # noqa: TID251
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
        temporary.replace(path)
