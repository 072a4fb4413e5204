from pathlib import Path

import pytest

from storage.opening_errors import NetworkVolume
from storage.volumes import NETWORK, kind_of, refuse_network

MOUNTS = """22 1 0:20 / / rw,relatime - overlay overlay rw
30 22 8:1 / /data rw,relatime shared:1 - ext4 /dev/sda1 rw
31 30 0:50 / /data/far rw,relatime - nfs4 server:/export rw
32 22 0:51 / /a\\040b rw,relatime - cifs //server/share rw
33 30 0:52 / /data/far rw,relatime - xfs /dev/sdb rw
34 22 0:53 / /database rw,relatime - fuse.sshfs there rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "overlay"),
        ("/data", "ext4"),
        ("/data/plora", "ext4"),
        ("/data/far/plora", "xfs"),  # mounted over the other
        ("/a b/c", "cifs"),
        ("/database", "fuse.sshfs"),
        ("/databases", "overlay"),
    ],
)
def test_the_innermost_mount_tells_the_kind(path, kind):
    assert kind_of(Path(path), MOUNTS) == kind


def test_a_local_disk_is_not_refused(tmp_path):
    refuse_network(tmp_path)


def test_a_network_volume_is_named_with_what_to_do():
    assert {"nfs", "nfs4", "cifs", "ceph"} <= NETWORK
    sentence = str(NetworkVolume("/data", "nfs4"))
    assert "PLORA_DATA_DIR" in sentence
    assert "PLORA_DATABASE_URL" in sentence


def test_without_any_table_of_mounts_nothing_is_told():
    assert not kind_of(Path("/data"), "")
