"""What kind of volume a path lies on, as Linux tells it: man 5 proc_pid_mountinfo."""

import re
from pathlib import Path

from storage.opening_errors import NetworkVolume

MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = """nfs nfs4 cifs smb3 smbfs ceph glusterfs lustre afs gpfs beegfs ocfs2 gfs2 orangefs
    fuse.glusterfs fuse.sshfs fuse.s3fs fuse.gcsfuse fuse.ceph fuse.ceph-fuse fuse.juicefs fuse.rclone
    fuse.mount-s3 fuse.blobfuse2"""
NETWORK = frozenset(_NETWORK.split())
ESCAPED = re.compile(r"\\([0-7]{3})")


def refuse_network(path: Path) -> None:
    """Raise NetworkVolume where `path` lies on one. Where nothing tells, nothing is refused."""
    try:
        mounts = MOUNTS.read_text("utf-8", "surrogateescape")
    except OSError:
        return
    kind = kind_of(path.resolve(), mounts)
    if kind in NETWORK:
        raise NetworkVolume(str(path), kind)


def kind_of(path: Path, mounts: str) -> str:
    """The type of the innermost mount above `path`, which is absolute; empty where none is told."""
    found, depth = "", -1
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = Path(ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), fields[4]))
        if path.is_relative_to(point) and len(point.parts) >= depth:  # of two at one point the later hides the other
            found, depth = after.split(" ")[0], len(point.parts)
    return found
