"""CephFS as the store: a monitor, one OSD in memory and an MDS on the machine in front, and ceph-fuse on all."""

from __future__ import annotations

from tests.support.machine import Machine
from tests.support.patience import wait_until

PACKAGES = ("ceph-mon", "ceph-osd", "ceph-mds", "ceph-mgr", "ceph-fuse")
NAME = "front"
ID = "5d2f6f7e-0f0e-4b0c-9d3e-3a0e6c1b7a11"
CONFIGURATION = f"""\
[global]
fsid = {ID}
mon_host = {{address}}
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_crush_chooseleaf_type = 0
osd_objectstore = memstore
memstore_device_bytes = 2147483648
mon_allow_pool_size_one = true
mds_cap_revoke_eviction_timeout = 5
"""


def serve(front: Machine, address: str) -> None:
    """The file system `mail`, ready to be mounted."""
    front.write("/etc/ceph/ceph.conf", CONFIGURATION.format(address=address))
    names = {"mon": NAME, "osd": "0", "mds": NAME, "mgr": NAME}
    directories = " ".join(f"/var/lib/ceph/{kind}/ceph-{name}" for kind, name in names.items())
    front.run(["sh", "-c", f"mkdir -p {directories}"])
    front.run(["monmaptool", "--create", "--fsid", ID, "--add", NAME, address, "/root/monmap"])
    front.run(["ceph-mon", "--mkfs", "-i", NAME, "--monmap", "/root/monmap"])
    start(front, "ceph-mon", NAME)
    made = front.run(["ceph", "osd", "new", ID]).stdout.strip()
    front.run(["ceph-osd", "-i", made, "--mkfs", "--osd-uuid", ID])
    start(front, "ceph-osd", made)
    start(front, "ceph-mgr", NAME)
    start(front, "ceph-mds", NAME)
    for pool in ("meta", "data"):
        front.run(["ceph", "osd", "pool", "create", pool, "8"])
    front.run(["ceph", "fs", "new", "mail", "meta", "data"])
    wait_until(lambda: "up:active" in front.run(["ceph", "mds", "stat"], check=False).stdout, pause=0.5)


def start(machine: Machine, program: str, name: str) -> None:
    machine.run(["systemd-run", f"--unit=the-{program}", program, "-f", "-i", name])


def mount(machine: Machine, address: str) -> None:
    """/srv is the file system."""
    machine.write("/etc/ceph/ceph.conf", CONFIGURATION.format(address=address))
    machine.run(["mknod", "-m", "666", "/dev/fuse", "c", "10", "229"])
    machine.run(["systemd-run", "--unit=store", "ceph-fuse", "-f", "/srv"])
    wait_until(lambda: machine.run(["mountpoint", "-q", "/srv"], check=False).returncode == 0, pause=0.2)
