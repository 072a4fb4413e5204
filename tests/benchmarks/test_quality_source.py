"""What the quality benchmark reads, and what it says of files that are wrong."""

import gzip
import json
import pickle

import pytest

from benchmarks.quality.source import BadFile, BadRow, NoData, SameName, find, read, read_all

ROW = {"user": "u1", "text": "good soup", "label": "like", "split": "train"}


def lines(path, *rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("{", "is not JSON"),
        ("[1]", "is not a JSON object"),
        ({"user": "u", "text": "t"}, "has no 'label'"),
        ({**ROW, "text": 3}, "its 'text' must be a string"),
        ({**ROW, "label": None}, "its 'label' must be a number or a string"),
        ({**ROW, "label": True}, "its 'label' must be"),
        ({**ROW, "user": ""}, "its 'user' must be"),
        ({**ROW, "split": "dev"}, "its 'split' must be"),
        ('{"user": "u", "text": "\\ud800", "label": 1}', "half a surrogate pair"),
        ('{"user": "u", "text": "t", "label": NaN}', "its 'label' must be"),
    ],
)
def test_a_bad_row_is_named_by_its_line_and_never_quoted(tmp_path, row, what):
    secret = "very poison"
    file = lines(tmp_path / "bad.jsonl", {**ROW, "text": secret}, row)
    with pytest.raises(BadRow, match=r"bad\.jsonl, line 2: ") as caught:
        read(file)
    assert what in str(caught.value)
    assert secret not in str(caught.value)


def test_files_that_are_no_lines_of_json_are_refused(tmp_path):
    (tmp_path / "broken.jsonl.gz").write_bytes(b"not gzip")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROW).encode())[:-9])
    (tmp_path / "latin.jsonl").write_bytes(b'{"user": "\xe9"}\n')
    for name, what in [
        ("broken.jsonl.gz", "cannot be read"),
        ("cut.jsonl.gz", "cannot be read"),
        ("latin.jsonl", "is not UTF-8"),
        ("absent.jsonl", "does not exist"),
        ("table.csv", "is of another kind"),
    ]:
        with pytest.raises(BadFile, match=what):
            read(tmp_path / name)
    with pytest.raises(BadFile, match="has no rows"):
        read(lines(tmp_path / "empty.jsonl", ""))


def test_two_files_of_one_name_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    files = [lines(tmp_path / "set.jsonl", ROW), lines(tmp_path / "other" / "set.jsonl", ROW)]
    with pytest.raises(SameName, match="'set'"):
        read_all(files)


def test_the_data_folder_gives_the_files_that_begin_with_a_row(tmp_path, monkeypatch):
    monkeypatch.setenv("PLORA_DATA", str(tmp_path))
    with pytest.raises(NoData, match="PLORA_DATA"):
        find([])
    (tmp_path / "people.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROW).encode()))
    (tmp_path / "experts.jsonl.gz").write_bytes(gzip.compress(b'{"name": "expert"}\n'))
    assert [path.name for path in find([])] == ["people.jsonl.gz"]


def test_numbers_are_grades_words_are_not_and_many_labels_are_free_text(tmp_path):
    def of(labels):
        return read(lines(tmp_path / "set.jsonl", *({**ROW, "label": label} for label in labels)))

    assert of([1, 2, 3.0, "4"]).ordinal
    assert not of([0, 1]).ordinal
    assert not of(["a", "b", "c"]).ordinal
    assert of([1.5, 2, 3]).rows[0].label == "1.5"
    assert of(range(21)).free_text
    assert not of(range(21)).ordinal


@pytest.mark.parametrize("error", [NoData("d"), BadFile("f", "w"), BadRow("f", 3, "w"), SameName("n")])
def test_errors_survive_pickling(error):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert str(again) == str(error)
    assert type(again) is type(error)
