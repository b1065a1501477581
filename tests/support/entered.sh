#!/bin/sh
# Runs a command where a tree has become /: for entered.py, which calls it in a mount namespace of its own.
#
#   entered.sh TREE DIRECTORY COMMAND…    in DIRECTORY of the tree
set -eu
tree=$1 directory=$2
shift 2

# Not with chroot(2): a machine that is booted in it does the same again.
mount --rbind "$tree" "$tree"
cd "$tree"
mount --rbind /proc proc
mount -t sysfs -o nosuid,nodev,noexec sysfs sys
mount --rbind /dev dev
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
hostname -F etc/hostname
pivot_root . .
umount -l .
cd "$directory"
exec "$@"
