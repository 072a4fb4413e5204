"""Blobs as objects of an S3 bucket: created under a condition, so that nothing is ever replaced, then looked at again.

Theory of operation. An object is complete or not there: S3 checks its SHA-256 before it takes it. A request whose
answer was lost is sent again under `If-None-Match: *`; 412 then says that a copy of ours, or somebody's object, stands
there, and its checksum tells which. 409 is a race between two such requests: again. So one blob becomes one object,
however often it was sent.
"""

import base64
import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

from storage.blobs import Blobs
from storage.errors import BlobsAway, BlobsRefused, BlobTaken

Answer = Mapping[str, object]
T = TypeVar("T")

AGAIN = frozenset({408, 409, 425, 429})
CUT = frozenset({"BadDigest", "IncompleteBody", "RequestTimeout", "SlowDown", "XAmzContentSHA256Mismatch"})
"""Codes of a request that did not arrive as it was sent."""

GONE = frozenset({"404", "NoSuchKey", "NotFound"})
UNVERSIONED = frozenset({"NotImplemented", "MethodNotAllowed"})
"""How servers that keep no versions answer the question for them."""


class S3(Protocol):
    """The calls we make."""

    def put_object(self, **given: object) -> Answer: ...
    def head_object(self, **given: object) -> Answer: ...
    def get_object(self, **given: object) -> Answer: ...
    def delete_object(self, **given: object) -> Answer: ...
    def list_objects_v2(self, **given: object) -> Answer: ...
    def list_object_versions(self, **given: object) -> Answer: ...


class Stream(Protocol):
    def read(self) -> bytes: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on asking a bucket that fails, in seconds. `answer_s` is the longest silence of one request."""

    whole_s: float = 30.0
    connect_s: float = 5.0
    answer_s: float = 10.0
    first_pause_s: float = 0.05
    longest_pause_s: float = 2.0


def client_of(endpoint: str = "", region: str = "", patience: Patience | None = None) -> S3:
    """A client with the credentials that boto3 finds by itself. It tries once: trying again is ours."""
    patience = patience or Patience()
    config = Config(
        connect_timeout=patience.connect_s,
        read_timeout=patience.answer_s,
        retries={"total_max_attempts": 1, "mode": "standard"},
        s3={"addressing_style": "path" if endpoint else "virtual"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    session = boto3.session.Session()
    made: S3 = session.client(
        "s3", endpoint_url=endpoint or None, region_name=region or session.region_name or "us-east-1", config=config
    )
    return made


class S3Blobs(Blobs):
    """The objects of `bucket` whose keys begin with `prefix`."""

    def __init__(self, client: S3, bucket: str, prefix: str, patience: Patience | None = None) -> None:
        self._client, self._bucket, self._prefix = client, bucket, prefix
        self._patience = patience or Patience()

    @property
    def place(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}"

    def _create(self, name: str, content: bytes) -> None:
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        given = self._of(name) | {
            "Body": content,
            "ChecksumAlgorithm": "SHA256",
            "ChecksumSHA256": digest,
            "ContentType": "application/octet-stream",
            "IfNoneMatch": "*",
        }

        def create() -> None:
            try:
                self._client.put_object(**given)
            except ClientError as problem:
                if _status(problem) != 412:
                    raise
            if not self._holds(name, content, digest):
                raise BlobTaken(self.place, name)

        self._patiently(create)

    def _holds(self, name: str, content: bytes, digest: str) -> bool:
        """Whether what stands there is `content`: by the server's own checksum where it keeps one, else by reading."""
        found = self._client.head_object(**self._of(name), ChecksumMode="ENABLED")
        known, length = found.get("ChecksumSHA256"), found.get("ContentLength")
        if length is None:  # an answer that was cut short within its head is taken for a whole one
            raise ConnectionResetError
        if length != len(content):
            return False
        return known == digest if known else self._downloaded(name) == content

    def _content(self, name: str) -> bytes | None:
        def download() -> bytes | None:
            try:
                return self._downloaded(name)
            except ClientError as problem:
                if _code(problem) in GONE:
                    return None
                raise

        return self._patiently(download)

    def _downloaded(self, name: str) -> bytes:
        body: Stream = self._client.get_object(**self._of(name))["Body"]  # type: ignore[assignment]
        try:
            return body.read()
        finally:
            body.close()

    def _names(self, prefix: str) -> Iterable[str]:
        return [name for name, _ in self._listed(prefix)]

    def _listed(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        given: dict[str, object] = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        while True:
            page = self._patiently(lambda: self._client.list_objects_v2(**given))
            for each in _rows(page, "Contents"):
                name, at = str(each["Key"]).removeprefix(self._prefix), each["LastModified"]
                if "/" not in name and isinstance(at, datetime):
                    yield name, at
            if not page.get("IsTruncated"):
                return
            given["ContinuationToken"] = page["NextContinuationToken"]

    def _sweep(self, dead: Iterable[str], before: datetime) -> int:
        names = set(dead)
        if not names:
            return 0
        old = [name for name, at in self._listed("") if name in names and at < before]
        for name in old:
            self._remove(name)
        return len(old)

    def _remove(self, name: str) -> None:
        for version in self._versions(name):
            chosen = {} if version is None else {"VersionId": version}
            self._patiently(partial(self._client.delete_object, **self._of(name), **chosen))

    def _versions(self, name: str) -> list[str | None]:
        """The ids of every version and every delete marker; None for the one object of a server without versions."""
        given: dict[str, object] = {"Bucket": self._bucket, "Prefix": self._prefix + name}
        found: list[str | None] = []

        def ask() -> Answer:
            return self._client.list_object_versions(**given)

        while True:
            try:
                page = self._patiently(ask)
            except BlobsRefused as refused:
                if refused.problem in UNVERSIONED:
                    return [None]
                raise
            rows = [*_rows(page, "Versions"), *_rows(page, "DeleteMarkers")]
            found += [str(each["VersionId"]) for each in rows if each["Key"] == self._prefix + name]
            if not page.get("IsTruncated"):
                return found
            given |= {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page.get("NextVersionIdMarker", "")}

    def _of(self, name: str) -> dict[str, object]:
        return {"Bucket": self._bucket, "Key": self._prefix + name}

    def _patiently(self, ask: Callable[[], T]) -> T:
        """What `ask` gives, asked again with growing pauses. Raises BlobsAway when the time is up, or BlobsRefused."""
        until = time.monotonic() + self._patience.whole_s
        pause = self._patience.first_pause_s
        while True:
            try:
                return ask()
            except (NoCredentialsError, PartialCredentialsError) as problem:
                raise BlobsRefused(self.place, type(problem).__name__) from problem
            except ClientError as problem:
                code, status = _code(problem), _status(problem)
                if status < 500 and status not in AGAIN and code not in CUT | GONE:
                    raise BlobsRefused(self.place, code) from problem
                told: Exception = problem
            except (BotoCoreError, OSError) as problem:  # a connection that broke, an answer that was cut short
                code, told = type(problem).__name__, problem
            wait = pause * (0.5 + secrets.randbelow(1_000) / 2_000)
            if time.monotonic() + wait > until:
                raise BlobsAway(self.place, code) from told
            threading.Event().wait(wait)
            pause = min(2 * pause, self._patience.longest_pause_s)


def _rows(page: Answer, name: str) -> list[Mapping[str, object]]:
    rows = page.get(name, [])
    return rows if isinstance(rows, list) else []


def _code(problem: ClientError) -> str:
    return str(problem.response.get("Error", {}).get("Code", "unknown"))


def _status(problem: ClientError) -> int:
    return int(problem.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
