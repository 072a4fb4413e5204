"""Data files: rows {"user", "text", "label", "split"?}, one a line, in .jsonl or .jsonl.gz."""

import gzip
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fit.people import ENVIRONMENT, folder

SUFFIXES = (".jsonl.gz", ".jsonl")
MOST_LABELS = 20
"""A file with more different labels is free text: its targets are written, not chosen."""


class DataError(Exception):
    """Root of what can be wrong with a data file."""


class NoData(DataError):
    """There is no data file where they are looked for."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place

    def __str__(self) -> str:
        return f"no data file with rows of user, text and label is in {self.place}: name the folder in {ENVIRONMENT}"


class BadFile(DataError):
    """A file that cannot be read as lines of JSON."""

    def __init__(self, file: str, what: str) -> None:
        super().__init__(file, what)
        self.file, self.what = file, what

    def __str__(self) -> str:
        return f"{self.file} {self.what}: give a .jsonl or .jsonl.gz file of rows with user, text and label"


class BadRow(DataError):
    """One line that is not a row; it is named by its number, never quoted."""

    def __init__(self, file: str, line: int, what: str) -> None:
        super().__init__(file, line, what)
        self.file, self.line, self.what = file, line, what

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.what}"


class SameName(DataError):
    """Two files would give their rows the same name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name

    def __str__(self) -> str:
        return f"two files are called {self.name!r}: rename one of them"


@dataclass(frozen=True, slots=True)
class Row:
    """One line. `split` is "train" or "test", or None where the file does not say."""

    user: str = field(repr=False)
    text: str = field(repr=False)
    label: str = field(repr=False)
    split: str | None = None


@dataclass(frozen=True, slots=True)
class DataSet:
    """A file's rows in its order; `digest` is the SHA-256 of what they say."""

    name: str
    rows: tuple[Row, ...] = field(repr=False)
    digest: str

    @property
    def free_text(self) -> bool:
        """Whether labels are written rather than chosen from a few."""
        return len({row.label for row in self.rows}) > MOST_LABELS

    @property
    def ordinal(self) -> bool:
        """Whether labels are grades: numbers, and more than two of them."""
        labels = {row.label for row in self.rows}
        return not self.free_text and len(labels) > 2 and all(_is_number(label) for label in labels)


def find(files: Sequence[Path]) -> list[Path]:
    """The files named, or all of the data folder whose first line is a row. Raises NoData."""
    if files:
        return list(files)
    found = [path for path in sorted(folder().glob("*.jsonl.gz")) if _begins_with_a_row(path)]
    if not found:
        raise NoData(str(folder()))
    return found


def read_all(paths: Sequence[Path]) -> list[DataSet]:
    """Raises BadFile, BadRow, and SameName where two files have the same name."""
    found: dict[str, DataSet] = {}
    for path in paths:
        data = read(path)
        if data.name in found:
            raise SameName(data.name)
        found[data.name] = data
    return list(found.values())


def read(path: Path) -> DataSet:
    """Raises BadFile and BadRow."""
    digest = hashlib.sha256()
    rows = []
    for number, line in _lines(path):
        row = _row(path.name, number, line)
        digest.update(repr((row.user, row.text, row.label, row.split)).encode())
        rows.append(row)
    if not rows:
        raise BadFile(path.name, "has no rows")
    return DataSet(name_of(path), tuple(rows), digest.hexdigest())


def name_of(path: Path) -> str:
    """The data set's name: the file's, without what says how it is packed."""
    suffix = next((suffix for suffix in SUFFIXES if path.name.endswith(suffix)), "")
    return path.name.removesuffix(suffix)


def _begins_with_a_row(path: Path) -> bool:
    try:
        number, line = next(_lines(path))
        _row(path.name, number, line)
    except (DataError, StopIteration):
        return False
    return True


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    if not path.name.endswith(SUFFIXES):
        raise BadFile(path.name, "is of another kind")
    opened = gzip.open if path.name.endswith(".gz") else open
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line
    except FileNotFoundError:
        raise BadFile(path.name, "does not exist") from None
    except (OSError, EOFError) as error:
        raise BadFile(path.name, f"cannot be read ({type(error).__name__})") from error
    except UnicodeDecodeError:
        raise BadFile(path.name, "is not UTF-8") from None  # the cause would quote the text


def _row(file: str, number: int, line: str) -> Row:
    try:
        found = json.loads(line)
    except ValueError:
        raise BadRow(file, number, "is not JSON") from None  # the cause would quote the text
    if not isinstance(found, dict):
        raise BadRow(file, number, "is not a JSON object with user, text and label")
    for name in ("user", "text", "label"):
        if name not in found:
            raise BadRow(file, number, f"has no {name!r}")
    if not isinstance(found["text"], str):
        raise BadRow(file, number, "its 'text' must be a string")
    if not all(_is_unicode(found[name]) for name in ("user", "text", "label")):
        raise BadRow(file, number, "has half a surrogate pair, which is no character")
    split = found.get("split")
    if split not in (None, "train", "test"):
        raise BadRow(file, number, 'its \'split\' must be "train" or "test"')
    return Row(_word(file, number, found, "user"), found["text"], _word(file, number, found, "label"), split)


def _word(file: str, number: int, found: dict[str, object], name: str) -> str:
    """A name or a number as text; 3.0 is the label 3."""
    value = found[name]
    if isinstance(value, float) and math.isfinite(value):
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, int | str) and not isinstance(value, bool) and value != "":
        return str(value)
    raise BadRow(file, number, f"its {name!r} must be a number or a string that is not empty")


def _is_unicode(value: object) -> bool:
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_number(label: str) -> bool:
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False
