#!/bin/sh
# Runs a command where packages that are not installed are in /usr and /etc: in a mount namespace that is its own.
#
#   unpacked.sh TREE USERS COMMAND…    USERS: names with spaces between them, made where they are missing; see unpacked.py
set -eu
tree=$1 users=$2
shift 2

mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay -o "lowerdir=$tree/usr:/usr" overlay /usr
mount -t overlay -o "lowerdir=$tree/etc:/etc,upperdir=/mnt/upper,workdir=/mnt/work" overlay /etc
mount -t tmpfs -o mode=755 tmpfs /run
id=61990
for user in $users; do
	if ! grep -q "^$user:" /etc/passwd; then
		echo "$user:x:$id:$id::/:/bin/false" >>/etc/passwd
		echo "$user:x:$id:" >>/etc/group
	fi
	id=$((id + 1))
done
exec "$@"
