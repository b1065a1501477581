#!/bin/sh
# Boots a Debian tree as a machine of its own: systemd as PID 1 in fresh namespaces, on an overlay that is gone with it.
# Called by machine.py in a private mount namespace (stage 1), which calls itself in the other namespaces (stage 2).
set -eu

stage=$1 tree=$2 scratch=$3 name=$4 network=$5 share=$6
root=$scratch/root

if [ "$stage" = outside ]; then
    # The upper layer is in memory: fast, and the kernel frees it with the mount namespace, however the machine ends.
    mount -t tmpfs -o mode=755 tmpfs "$scratch/upper"
    mkdir "$scratch/upper/data" "$scratch/upper/work"
    mount -t overlay -o "lowerdir=$tree,upperdir=$scratch/upper/data,workdir=$scratch/upper/work" overlay "$root"
    if [ -n "$share" ]; then
        mkdir -p "$root/srv"
        mount --bind "$share" "$root/srv"
    fi
    # A cgroup of its own first, so that the machine's cgroup namespace has its root there and what systemd makes
    # is found in one place afterwards.
    mount -t cgroup2 cgroup2 "$scratch/cgroup"
    mkdir "$scratch/cgroup/$name"
    echo $$ >"$scratch/cgroup/$name/cgroup.procs"
    umount "$scratch/cgroup"
    net=--net
    [ "$network" = private ] || net=
    exec unshare --pid --uts --ipc $net --cgroup --fork --kill-child=KILL sh "$0" inside "$tree" "$scratch" "$name" "$network" "$share"
fi

mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
# The kernel's settings belong to the host; those of the network namespace are the machine's own.
mount --bind "$root/proc/sys" "$scratch/sys"
mount -o remount,bind,ro "$scratch/sys"
if [ "$network" = private ]; then mount --bind "$root/proc/sys/net" "$scratch/sys/net"; fi
mount --move "$scratch/sys" "$root/proc/sys"
if [ -e "$root/proc/sysrq-trigger" ]; then
    mount --bind "$root/proc/sysrq-trigger" "$root/proc/sysrq-trigger"
    mount -o remount,bind,ro "$root/proc/sysrq-trigger"
fi

# Read-only sysfs is what tells systemd's units (udev) that the hardware is somebody else's.
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mount -t tmpfs -o mode=755,nosuid tmpfs "$root/dev"
for node in "null 1 3" "zero 1 5" "full 1 7" "random 1 8" "urandom 1 9" "tty 5 0"; do
    # shellcheck disable=SC2086 # three words
    set -- $node
    mknod -m 666 "$root/dev/$1" c "$2" "$3"
done
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"

# systemd tells this socket when the boot is finished: nobody has to poll.
mkdir "$root/run/host"
touch "$root/run/host/notify"
mount --bind "$scratch/notify" "$root/run/host/notify"

cd "$root"
pivot_root . .
umount -l .
# As systemd makes it outside of containers: what a unit's credentials are mounted in must arrive in its own namespace.
mount --make-rshared /
exec setpriv --bounding-set=-sys_time,-sys_module,-sys_rawio --inh-caps=-sys_time,-sys_module,-sys_rawio -- \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=unshare NOTIFY_SOCKET=/run/host/notify /lib/systemd/systemd
