#!/bin/sh
# Courier's POP3 server on 127.0.0.1, started by unpacked.sh.
#
#   courier.sh PORT HOME USER PASSWORD    serves HOME/Maildir as nobody; see courier.py
set -eu
port=$1 home=$2 user=$3 password=$4

mkdir -p /run/courier/authdaemon
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
