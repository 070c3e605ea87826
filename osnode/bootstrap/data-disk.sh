#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Puts the state of containerd and of the kubelet on the machine's second disk.
#
#   osn-data-disk FILESYSTEM auto|DEVICE
#
# auto is the ephemeral disk of the machine's flavor, or else the one disk that is empty.
# A disk with anything on it is left alone, except an ephemeral one as Nova formats it.
# Without such a disk all stays on the root disk.
set -eu

filesystem=$1
wanted=$2
label=osn-data
top=/var/lib/osn/data
minimum=1073741824

say() { echo "osn-data-disk: $*"; }

# Nothing, or another word for it.
skip() {
	say "$*: the root disk is used"
	exit 0
}

label_of() { blkid -p -o value -s LABEL "$1" 2>/dev/null || true; }

# Neither partitions nor anything that blkid knows.
empty() {
	[ "$(lsblk -nro NAME "$1" | wc -l)" -eq 1 ] || return 1
	[ -z "$(blkid -p -o export "$1" 2>/dev/null)" ]
}

# The disks of which one may be chosen, one in a line.
empty_disks() {
	root=$(findmnt -nro SOURCE /)
	[ -b "$root" ] || return 0 # not a machine of its own
	system=$(lsblk -nsro NAME,TYPE "$root" | awk '$2 == "disk" { print "/dev/" $1 }')
	lsblk -dnrbpo NAME,TYPE,RO,SIZE | while read -r disk type readonly size; do
		[ "$type" = disk ] || continue
		[ "$readonly" = 0 ] || continue
		[ "$size" -ge "$minimum" ] || continue
		[ -b "$disk" ] || continue
		[ "$disk" != "$system" ] || continue
		! empty "$disk" || echo "$disk"
	done
}

find_disk() {
	if [ "$wanted" != auto ]; then
		readlink -f "$wanted"
		return
	fi
	blkid -l -o device -t "LABEL=$label" && return
	blkid -l -o device -t LABEL=ephemeral0 && return
	disks=$(empty_disks)
	case $disks in
	*"
"*) say "several disks are empty: $disks" >&2 ;;
	*) echo "$disks" ;;
	esac
}

# cloud-init of some images mounts an ephemeral disk by itself.
release() {
	mounted=$(findmnt -nro TARGET --source "$1" || true)
	case $mounted in
	'') ;;
	/mnt)
		umount /mnt
		sed -i '/[[:space:]]\/mnt[[:space:]]/d' /etc/fstab
		;;
	*) skip "$1 is mounted on $mounted" ;;
	esac
}

format() {
	say "formatting $1 with $filesystem"
	case $filesystem in
	xfs) mkfs.xfs -q -f -L "$label" "$1" ;;
	ext4) mkfs.ext4 -q -F -L "$label" "$1" ;;
	esac
	udevadm settle 2>/dev/null || true
}

# One line of /etc/fstab, once.
keep() { grep -qxF "$*" /etc/fstab || echo "$*" >>/etc/fstab; }

# The service does not start without its directory, should the disk ever be missing.
place() {
	service=$1 dir=/var/lib/$1
	mountpoint -q "$dir" && return
	mkdir -p "$dir" "$top/$service" "/etc/systemd/system/$service.service.d"
	chmod --reference="$dir" "$top/$service"
	cp -a "$dir/." "$top/$service/"
	keep "$top/$service $dir none bind,nofail,x-systemd.requires-mounts-for=$top 0 0"
	printf '[Unit]\nRequiresMountsFor=%s\n' "$dir" >"/etc/systemd/system/$service.service.d/10-data-disk.conf"
	mount --bind "$top/$service" "$dir"
}

disk=$(find_disk)
[ -n "$disk" ] || skip "there is no second disk"
[ -b "$disk" ] || skip "$disk is no disk"
if ! mountpoint -q "$top"; then
	case $(label_of "$disk") in
	"$label") ;;
	ephemeral0)
		release "$disk"
		format "$disk"
		;;
	*)
		empty "$disk" || skip "$disk is not empty"
		format "$disk"
		;;
	esac
	mkdir -p "$top"
	keep "LABEL=$label $top auto defaults,noatime,nofail 0 2"
	mount -o noatime "$disk" "$top"
fi
for service in containerd kubelet; do
	! systemctl is-active --quiet "$service" || systemctl stop "$service"
	place "$service"
done
say "$disk has /var/lib/containerd and /var/lib/kubelet"
