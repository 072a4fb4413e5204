"""Where a daemon keeps its Bases is a setting: a bucket, a directory, or by default a folder of its data."""

from pathlib import Path

import pytest

from daemon.service import place_blobs
from daemon.settings import InvalidSetting, load
from storage import Blobs


def test_bases_lie_with_the_data_unless_told_otherwise(tmp_path):
    assert place_blobs(load({"PLORA_DATA_DIR": str(tmp_path)})) == tmp_path / "blobs"
    assert place_blobs(load({"PLORA_BLOBS_URL": str(tmp_path / "there")})) == tmp_path / "there"
    assert place_blobs(load({"PLORA_BLOBS_URL": "~/there"})) == Path.home() / "there"


def test_a_bucket_is_named_by_its_url_and_nothing_connects_at_start():
    settings = load({"PLORA_BLOBS_URL": "s3://bucket/some/prefix", "PLORA_S3_ENDPOINT": "http://127.0.0.1:9"})
    place = place_blobs(settings)
    assert isinstance(place, Blobs)
    assert place.place == "s3://bucket/some/prefix/"


@pytest.mark.parametrize("url", ["https://host/bucket", "gs://bucket", "file:///tmp/blobs", "s3://", "s3:///x"])
def test_any_other_url_is_refused(url):
    with pytest.raises(InvalidSetting, match="PLORA_BLOBS_URL"):
        load({"PLORA_BLOBS_URL": url})


@pytest.mark.parametrize("name", ["PLORA_GATE_MOST", "PLORA_GATE_MOST_NORM"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "much"])
def test_the_bounds_of_the_gate_are_numbers_above_zero(name, value):
    with pytest.raises(InvalidSetting, match=name):
        load({name: value})
