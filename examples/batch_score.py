"""Score a file: python examples/batch_score.py IN OUT (.parquet or .jsonl with the columns `user` and `text`)

OUT has the same rows with `label`, `confidence`, `version` (null: the generic model) and `held`. Rows of many users go
through the model together; which users they are does not matter to the speed.
"""

import json
import os
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from plora.client import Client

AT_ONCE = 256
Row = dict[str, object]


def main() -> None:
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    with Client(os.environ["PLORA_URL"], os.environ["PLORA_TOKEN"], follow=False) as daemon:
        write(target, scored(daemon, read(source)))


def scored(daemon: Client, rows: Iterable[Row]) -> Iterator[Row]:
    following = iter(rows)
    while part := list(islice(following, AT_ONCE)):
        answers = daemon.predict([(str(row["user"]), str(row["text"])) for row in part])
        for row, answer in zip(part, answers, strict=True):
            told = {"label": answer.label, "confidence": answer.confidence}
            yield row | told | {"version": answer.version, "held": answer.held}


def read(path: Path) -> Iterator[Row]:
    if path.suffix == ".parquet":
        for batch in pq.ParquetFile(path).iter_batches(AT_ONCE):
            yield from batch.to_pylist()
    else:
        with path.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def write(path: Path, rows: Iterable[Row]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        with path.open("w", encoding="utf-8") as out:
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


if __name__ == "__main__":
    main()
