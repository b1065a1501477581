#!/bin/sh
# Courier's POP3 server in a mount namespace of its own, on 127.0.0.1, from packages that are not installed.
#
#   courier.sh TREE PORT HOME USER PASSWORD    serves HOME/Maildir as nobody; see courier.py
set -eu
tree=$1 port=$2 home=$3 user=$4 password=$5

mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay -o "lowerdir=$tree/usr:/usr" overlay /usr
mount -t overlay -o "lowerdir=$tree/etc:/etc,upperdir=/mnt/upper,workdir=/mnt/work" overlay /etc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/courier/authdaemon
echo "courier:x:61990:61990::/:/bin/false" >>/etc/passwd
echo "courier:x:61990:" >>/etc/group
cat >/etc/courier/authdaemonrc <<AUTHDAEMONRC
authmodulelist="authuserdb"
authmodulelistorig="authuserdb"
daemons=2
authdaemonvar=/run/courier/authdaemon
AUTHDAEMONRC
umask 077
printf '%s\tuid=65534|gid=65534|home=%s|mail=%s/Maildir|systempw=%s\n' \
	"$user" "$home" "$home" "$(openssl passwd -1 "$password")" >/etc/courier/userdb
makeuserdb
umask 022
/usr/lib/courier/courier-authlib/authdaemond &
while [ ! -S /run/courier/authdaemon/socket ]; do
	sleep 0.05
done
exec /usr/sbin/couriertcpd -address=127.0.0.1 -maxprocs=40 -maxperip=40 -nodnslookup -noidentlookup "$port" \
	/usr/lib/courier/courier/courierpop3login /usr/lib/courier/courier/courierpop3d Maildir
