#!/bin/bash
# machine.sh DIR: boots systemd in namespaces of its own, on an overlay of this machine's root file
# system, and runs DIR/steps.sh there as root. DIR is /test there. Nothing of it stays on this machine.
# The exit code is that of steps.sh; its output is in DIR/log.
set -euo pipefail
dir=$1
case ${2:-} in
"") # private mounts, a control group and a network; then the process IDs
	exec unshare --mount --net --ipc --uts --propagation=private "$0" "$dir" namespaces
	;;
namespaces)
	mkdir "$dir/cgroup" "$dir/overlay"
	mount -t cgroup2 cgroup2 "$dir/cgroup"
	group=$dir/cgroup/livego-test-$$
	mkdir "$group"
	(
		echo $BASHPID >"$group/cgroup.procs"
		exec timeout --signal=KILL 600 unshare --pid --cgroup --mount --fork --kill-child=KILL "$0" "$dir" boot
	) || true
	for _ in {1..50}; do # the kernel ends the processes of the namespace a moment later
		find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
		read -rt 0.1 <> <(:) || true
	done
	exit "$(cat "$dir/status" 2>/dev/null || echo 100)"
	;;
boot)
	mount -t tmpfs tmpfs "$dir/overlay"
	mkdir "$dir"/overlay/{changes,work,root}
	root=$dir/overlay/root
	mount -t overlay -o "lowerdir=/,upperdir=$dir/overlay/changes,workdir=$dir/overlay/work" overlay "$root"
	mount -t proc proc "$root/proc"
	mount --bind -o ro "$root/proc/sys" "$root/proc/sys"
	mount -t sysfs -o ro sysfs "$root/sys"
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
	for fs in run tmp dev; do
		mount -t tmpfs tmpfs "$root/$fs"
	done
	mkdir -p "$root/dev/pts" "$root/dev/shm" "$root/test"
	mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
	ln -s pts/ptmx "$root/dev/ptmx"
	for device in null zero full random urandom tty; do
		touch "$root/dev/$device"
		mount --bind "/dev/$device" "$root/dev/$device"
	done
	mount --bind "$dir" "$root/test"
	# No unit of this machine starts. What changes the kernel's settings must not.
	rm -rf "$root"/{etc,usr/lib}/systemd/system/*.{wants,requires} "$root/usr/sbin/policy-rc.d"
	: >"$root/etc/fstab"
	: >"$root/etc/machine-id"
	cat >"$root/etc/systemd/system/steps.service" <<-END
		[Unit]
		DefaultDependencies=no
		[Service]
		Type=oneshot
		ExecStart=/bin/bash /test/steps.sh
		StandardOutput=file:/test/log
		StandardError=inherit
		ExecStopPost=/bin/sh -c 'echo \$EXIT_STATUS >/test/status; systemctl --no-block exit'
	END
	cd "$root"
	mkdir outside
	pivot_root . outside # systemd makes mount namespaces, which a chroot must not
	umount -l outside
	exec chroot . /usr/bin/env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
		/lib/systemd/systemd --system --unit=steps.service --log-target=null --show-status=no </dev/null
	;;
esac
