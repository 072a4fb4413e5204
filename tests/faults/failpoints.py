"""Failpoints and mutants: an import hook, for a process that a test starts and owns.

A comment line `# failpoint: NAME` in production code is nothing to Python. In a process that called `install` before it
imported the code, each such line is a call of `reach`, and a Mutant is its source with one line of thought taken out.
"""

import importlib.machinery
import os
import re
import signal
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("storage", "daemon", "policies", "plora")
POINT = re.compile(r"^(?P<indent> *)# failpoint: (?P<name>[a-z0-9-]+)$", re.MULTILINE)
CALL = "__import__('sys').modules['tests.faults.failpoints'].reach('{}')"


class MutantMissed(Exception):
    """The source to be changed is not there exactly once: the code moved on, and the mutant has to follow."""


@dataclass(frozen=True, slots=True)
class Change:
    """In the file at `path`, `old` becomes `new`."""

    path: str
    old: str
    new: str

    def applied(self, source: str) -> str:
        found = source.count(self.old)
        if found != 1:
            raise MutantMissed(f"{self.path}: found {found} times: {self.old!r}")
        return source.replace(self.old, self.new)


@dataclass
class _Armed:
    """What this process does where."""

    actions: dict[str, tuple[str, int]]
    hits: Counter[str]
    guard: threading.Lock


_armed = _Armed({}, Counter(), threading.Lock())


def arm(actions: Mapping[str, tuple[str, int]]) -> None:
    """At the nth time that a point is reached do its action: `kill`, `stop`, `raise`, or `wait:SECONDS`."""
    _armed.actions = dict(actions)
    _armed.hits.clear()


def reach(name: str) -> None:
    """What a failpoint's comment becomes."""
    with _armed.guard:
        _armed.hits[name] += 1
        action, nth = _armed.actions.get(name, ("", 0))
        reached = _armed.hits[name] == nth
    if reached:
        _act(action)


def points() -> dict[str, str]:
    """Every point in the code: its name, and the file that it stands in."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for match in POINT.finditer(path.read_text()):
                if match["name"] in found:
                    raise MutantMissed(f"the point {match['name']} stands in two places")
                found[match["name"]] = str(path.relative_to(ROOT))
    return found


def changed(path: str, source: str, changes: Sequence[Change]) -> str:
    """`source` with its points made calls and its changes made. No line moves."""
    for change in changes:
        if change.path == path:
            source = change.applied(source)
    return POINT.sub(lambda match: match["indent"] + CALL.format(match["name"]), source)


def install(changes: Sequence[Change] = ()) -> None:
    """From now on import the code with its points and these changes. Raises MutantMissed."""
    for change in changes:
        change.applied((ROOT / change.path).read_text())
        if change.path.removesuffix(".py").replace("/", ".") in sys.modules:
            raise MutantMissed(f"{change.path} was imported before it could be changed")
    sys.modules.setdefault("tests.faults.failpoints", sys.modules[__name__])
    sys.meta_path.insert(0, _Finder(tuple(changes)))


class _Finder(MetaPathFinder):
    def __init__(self, changes: Sequence[Change]) -> None:
        self._changes = changes

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in PACKAGES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
            return spec
        file = str(Path(spec.origin).resolve().relative_to(ROOT))
        source = Path(spec.origin).read_text()
        made = changed(file, source, self._changes)
        if made != source:
            spec.loader = _Loader(name, spec.origin, made)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles what it was given, and neither reads nor writes cached bytecode."""

    def __init__(self, name: str, origin: str, source: str) -> None:
        super().__init__(name, origin)
        self._source = source

    def get_code(self, fullname):  # noqa: ARG002
        return compile(self._source, self.path, "exec", dont_inherit=True)


def _act(action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "raise":
        raise OSError("a failpoint")
    elif action.startswith("wait:"):
        threading.Event().wait(float(action.removeprefix("wait:")))
