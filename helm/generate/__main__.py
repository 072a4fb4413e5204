"""python -m helm.generate [--check]: write every generated file of the chart, or say which ones have drifted."""

import sys
from collections.abc import Callable
from pathlib import Path

from helm.generate import rules, schema
from helm.generate.boards import shelf

CHART = Path(__file__).parents[1]


def files() -> dict[str, Callable[[], str]]:
    """Path below the chart -> how its text is made."""
    return {
        "values.schema.json": schema.schema_text,
        "values.yaml": schema.values_text,
        "README.md": lambda: schema.table_text((CHART / "README.md").read_text()),
        **shelf.files(),
        **rules.files(),
    }


def main(words: list[str]) -> int:
    """Exit status 1 when a file of the chart is not what the code says."""
    drifted = []
    for name, make in files().items():
        path, text = CHART / name, make()
        if path.exists() and path.read_text() == text:
            continue
        drifted.append(name)
        if "--check" not in words:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if drifted:
        print(f"{'drifted, run python -m helm.generate' if '--check' in words else 'written'}: {', '.join(drifted)}")  # noqa: T201  (a command's answer)
    return int(bool(drifted) and "--check" in words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
