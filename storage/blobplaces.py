"""Where blobs lie, by URL."""

from pathlib import Path

from storage.blobs import Blobs
from storage.errors import BadRecord
from storage.fileblobs import FileBlobs

BUCKETS = "s3://"


def open_blobs(url: str, *, endpoint: str = "", region: str = "") -> Blobs:
    """The place that `url` names: `s3://bucket/prefix`, or a directory. Raises BadRecord.

    `endpoint` is the URL of an S3-speaking server that is not Amazon's.
    """
    if url.startswith(BUCKETS):
        from storage.s3blobs import S3Blobs, client_of  # noqa: PLC0415 - boto3 takes half a second

        bucket, _, prefix = url.removeprefix(BUCKETS).partition("/")
        if not bucket:
            raise BadRecord("url", "s3://bucket or s3://bucket/prefix")
        return S3Blobs(client_of(endpoint, region), bucket, f"{prefix.strip('/')}/" if prefix.strip("/") else "")
    if "://" in url:
        raise BadRecord("url", "s3://bucket/prefix or the path of a directory")
    return FileBlobs(Path(url))
