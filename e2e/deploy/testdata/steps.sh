# Installs, upgrades, removes and purges the package on a machine that runs systemd. Each line that
# fails ends it. /test has old.deb, new.deb and the flags of the test.
set -eux
trap 'systemctl status --no-pager --lines=0 livego.service livego.socket; cat /test/livego.log' ERR

fails() {
	if "$@"; then
		return 1
	fi
}
user() { setpriv --reuid=1000 --regid=1000 --clear-groups "$@"; }
get() { "$@" curl -s --max-time 10 -w ' %{http_code}' 'http://localhost:8090/control/get?room=movie'; }
pid() { systemctl show -P MainPID livego.service; }

mkdir -p /etc/systemd/system/livego.service.d
printf '[Service]\nStandardError=append:/test/livego.log\n' >/etc/systemd/system/livego.service.d/log.conf

: the package starts the service
dpkg -i /test/old.deb
systemctl is-active livego.service
systemctl is-enabled livego.service
livego health
man -w livego
[ -s /usr/share/livego/prometheus/livego.rules.yml ] && [ -s /usr/share/livego/grafana/livego.json ] # of docs/metrics.md
systemd-analyze verify livego.service livego.socket
# the exposure in tenths, of which 100 is the most
systemd-analyze security --offline=true --threshold=20 livego.service >/dev/null

: it has the player and the console, if they are built here
if [ -e /test/player ]; then
	curl -s http://localhost:7001/live/movie | grep -q /.livego/watch.js
	curl -sf -o /dev/null http://localhost:7001/.livego/player.js
	user curl -s http://localhost:8090/ | grep -q /.livego/console.js
fi

: the sandbox
first=$(pid)
[ "$(stat -c %U /proc/"$first")" = livego ]
grep -qx 'CapEff:	0000000000000000' /proc/"$first"/status
grep -qx 'CapBnd:	0000000000000000' /proc/"$first"/status
grep -qx 'NoNewPrivs:	1' /proc/"$first"/status
grep -qx 'Seccomp:	2' /proc/"$first"/status
fails nsenter -t "$first" -m touch /etc/livego/x # the file system is read-only for it
[ "$(readlink /proc/"$first"/ns/user)" = "$(readlink /proc/self/ns/user)" ]

: the server finds the user at the other end of a connection
key=$(get user)
[[ $key == *'"status":200'*' 200' ]]
[[ $(get setpriv --reuid=33 --regid=33 --clear-groups) != *' 200' ]] # www-data: a proxy

: ffmpeg works in the sandbox
stream_key=$(grep -o '[0-9A-Za-z]\{48\}' <<<"$key")
ffmpeg -v error -re -f lavfi -i testsrc2=rate=10:size=320x180 -t 60 -c:v libx264 -g 10 -f flv "rtmp://localhost/live/$stream_key" &
encoder=$!
for _ in {1..100}; do
	[ "$(curl -s -o /test/thumbnail.jpg -w '%{http_code}' http://localhost:7001/live/movie.jpg)" != 200 ] || break
	sleep 0.1
done
kill $encoder
[ "$(head -c 3 /test/thumbnail.jpg | od -An -tx1)" = ' ff d8 ff' ]

: an upgrade keeps keys and settings
echo 'log_format: json' >>/etc/livego/livego.yaml
livego check-config
[[ $(user livego check-config 2>&1) == *'permission denied'* ]] # they may contain secrets
systemctl reload livego.service
[ "$(pid)" = "$first" ]
until grep -q 'msg="settings reloaded"' /test/livego.log; do sleep 0.1; done
dpkg -i --force-confold /test/new.deb </dev/null
systemctl is-active livego.service
second=$(pid)
[ "$second" != "$first" ]
[ "$(get user)" = "$key" ]
grep -q 'log_format: json' /etc/livego/livego.yaml
grep -q 'new version' /etc/livego/livego.yaml.dpkg-dist
grep -q '"msg":"listening"' /test/livego.log
grep -q 'msg=stopped' /test/livego.log

: systemd restarts a server that does not work
printf '[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n' >/etc/systemd/system/livego.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart livego.service
third=$(pid)
kill -STOP "$third"
for _ in {1..100}; do
	[ "$(systemctl show -P NRestarts livego.service)" = 0 ] || break
	sleep 0.1
done
[ "$(systemctl show -P NRestarts livego.service)" = 1 ]
while [ "$(systemctl is-active livego.service)" = activating ]; do sleep 0.1; done
[ "$(get user)" = "$key" ]

: systemd holds the ports while no server runs
systemctl stop livego.service
[ "$(systemctl show -P Result livego.service)" = success ]
[ "$(systemctl show -P ExecMainStatus livego.service)" = 0 ]
systemctl enable --now livego.socket
[ "$(get user)" = "$key" ] # starts the service
systemctl is-active livego.service
systemctl restart livego.service
[ "$(get user)" = "$key" ]
systemctl disable --now livego.socket
systemctl stop livego.service

: invalid settings end the service, and are not tried again
echo 'rtmp_adr: :1935' >>/etc/livego/livego.yaml
fails systemctl start livego.service
[ "$(systemctl show -P ExecMainStatus livego.service)" = 2 ]
[ "$(systemctl show -P NRestarts livego.service)" = 0 ]
sed -i '$d' /etc/livego/livego.yaml
systemctl start livego.service

: a removal keeps settings and keys
dpkg -r livego
fails systemctl is-active livego.service
[ ! -e /usr/bin/livego ]
grep -q 'log_format: json' /etc/livego/livego.yaml
[ -s /var/lib/livego/livego.db ]
dpkg -i /test/new.deb
[ "$(get user)" = "$key" ]

: a purge deletes what livego has written, except for recordings
mkdir -p /var/lib/livego/recordings
touch /var/lib/livego/recordings/movie.flv
dpkg -P livego
[ ! -e /etc/livego ]
[ ! -e /var/lib/livego/livego.db ]
[ -e /var/lib/livego/recordings/movie.flv ]
[ "$(find /var/lib/livego -type f | wc -l)" = 1 ]
fails systemctl cat livego.service

: the commands of docs/install.md
rm -r /var/lib/livego
sudo() { "$@" <<<y; } # the answer to apt
cd /test
mv new.deb livego_1.0.1_amd64.deb
. /test/install.sh
[ ! -e /etc/livego ]
[ ! -e /var/lib/livego ]
