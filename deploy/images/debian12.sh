#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the node image with Debian 12. See docs/guides/node-images.md for what such an
# image has to have. Needs root, and on the machine: mmdebstrap; for a disk also
# e2fsprogs, fdisk and qemu-utils. It uses no loop devices and no virtual machine, so it
# runs in a container, too.
set -euo pipefail

release=bookworm
here=$(cd "$(dirname "$0")" && pwd)

usage() {
	cat <<'TEXT'
usage: debian12.sh --output PATH --kubelet PATH [options]

  --output PATH         what to make; it must not exist
  --format FORMAT       dir: a root file system without a kernel, as a directory
                        tar: the same as a tar archive
                        qcow2: a disk that boots by itself; its kernel and initial RAM disk are
                        left beside it, with the extensions .vmlinuz and .initrd
                        (default: qcow2)
  --kubelet PATH        the kubelet's program, 1.32 or later
  --kube-proxy PATH     the program of kube-proxy, for clusters whose network needs it
  --image TAR           an archive with container images that containerd shall have from the start;
                        may be repeated
  --sandbox-image NAME  the image that holds a pod's namespaces (default: registry.k8s.io/pause:3.10.1)
  --include PACKAGES    more Debian packages, separated by commas
  --sources FILE        package sources in one of apt's formats (default: those of this machine for
                        Debian 12)
  --size GIB            the disk's size; the root file system grows to that of the machine's disk at the
                        first start (default: 3)
TEXT
}

fail() {
	printf 'debian12.sh: %s\n' "$*" >&2
	exit 1
}

say() { printf 'debian12.sh: %s\n' "$*" >&2; }

# What every image has. net-tools is for cloud-init, which sets routes with it; openresolv
# because name servers of static networks would be ignored without.
packages=(
	bridge-utils ca-certificates chrony cloud-guest-utils cloud-init conntrack containerd
	containernetworking-plugins curl dbus e2fsprogs ethtool gdisk ifupdown iproute2 iptables
	iputils-ping isc-dhcp-client kmod less libpam-systemd lsb-release net-tools nftables openresolv
	openssh-server procps runc socat sudo systemd-sysv udev util-linux vim-tiny xfsprogs
)
# What only a disk needs.
disk_packages=(linux-image-cloud-amd64 initramfs-tools grub-pc-bin grub-common)

output='' format=qcow2 kubelet='' proxy='' sandbox=registry.k8s.io/pause:3.10.1 sources='' size=3
images=()

parse() {
	while [ $# -gt 0 ]; do
		case $1 in
		--help | -h) usage; exit 0 ;;
		--output | --format | --kubelet | --kube-proxy | --image | --sandbox-image | --include | --sources | --size)
			[ $# -ge 2 ] || fail "$1 needs a value" ;;
		*) fail "what is $1? See --help" ;;
		esac
		case $1 in
		--output) output=$2 ;;
		--format) format=$2 ;;
		--kubelet) kubelet=$2 ;;
		--kube-proxy) proxy=$2 ;;
		--image) images+=("$2") ;;
		--sandbox-image) sandbox=$2 ;;
		--include) IFS=, read -ra more <<<"$2" && packages+=("${more[@]}") ;;
		--sources) sources=$2 ;;
		--size) size=$2 ;;
		esac
		shift 2
	done
}

check() {
	[ -n "$output" ] || fail "--output is missing"
	[ ! -e "$output" ] || fail "$output exists"
	[ -n "$kubelet" ] || fail "--kubelet is missing"
	local file
	for file in "$kubelet" ${proxy:+"$proxy"} ${sources:+"$sources"} "${images[@]}"; do
		[ -r "$file" ] || fail "$file cannot be read"
	done
	case $format in dir | tar | qcow2) ;; *) fail "--format is $format: want dir, tar or qcow2" ;; esac
	[[ $size =~ ^[1-9][0-9]*$ ]] || fail "--size is $size: want a number of GiB"
	[[ $sandbox =~ ^[A-Za-z0-9][A-Za-z0-9._/:@-]*$ ]] || fail "--sandbox-image is $sandbox: want an image's name"
	[ "$(id -u)" = 0 ] || fail "root is needed"
	local need=(mmdebstrap:mmdebstrap apt-config:apt)
	if [ "$format" = qcow2 ]; then
		[ "$(uname -m)" = x86_64 ] || fail "disks can be made for x86-64 only"
		need+=(mke2fs:e2fsprogs sfdisk:fdisk qemu-img:qemu-utils)
	fi
	local item
	for item in "${need[@]}"; do
		command -v "${item%%:*}" >/dev/null || fail "${item%%:*} is missing: install the package ${item##*:}"
	done
}

# Package sources of this machine that are for the release, one file each. Those of other
# archives are left out.
host_sources() {
	local file target
	for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
		[ -r "$file" ] || continue
		target=$work/sources/${file##*/}
		if [[ $file = *.sources ]]; then
			awk -v release="$release" '
				BEGIN { RS = ""; ORS = "\n\n" }
				{
					count = split($0, lines, "\n"); types = suites = ""; enabled = 1
					for (i = 1; i <= count; i++) {
						key = tolower(lines[i]); sub(/:.*/, "", key)
						value = lines[i]; sub(/^[^:]*:[ \t]*/, "", value)
						if (key == "types") types = " " value " "
						if (key == "suites") suites = " " value " "
						if (key == "enabled" && tolower(value) ~ /^no/) enabled = 0
					}
					if (enabled && types ~ / deb / && suites ~ (" " release "(-updates|-security)? ")) print
				}' "$file" >"$target"
		else
			awk -v release="$release" '
				/^[ \t]*deb[ \t]/ {
					line = $0; sub(/\[[^]]*\]/, "", line); split(line, field)
					if (field[3] ~ ("^" release "(-updates|-security)?$")) print
				}' "$file" >"$target"
		fi
		[ -s "$target" ] || rm "$target"
	done
	[ -n "$(ls "$work/sources")" ] || fail "this machine has no package sources for Debian 12: give them with --sources"
}

# How this machine's apt reaches its archives: mmdebstrap's does not read that by itself.
apt_settings() {
	apt-config dump | awk '/^Acquire::(https?|Retries|Check-|ForceIPv)/' >"$work/apt.conf"
}

install_packages() {
	mkdir "$work/sources"
	if [ -n "$sources" ]; then cp "$sources" "$work/sources/"; else host_sources; fi
	apt_settings
	[ "$format" != qcow2 ] || packages+=("${disk_packages[@]}")
	say "installing ${#packages[@]} Debian packages and what they need"
	local list
	list=$(IFS=, && echo "${packages[*]}")
	LC_ALL=C.UTF-8 TMPDIR=$work mmdebstrap --quiet --mode=root --variant=minbase --format=directory \
		--aptopt="$work/apt.conf" --aptopt='Apt::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
		--include="$list" "$release" "$root" "$work"/sources/* >&2
}

# Ours over Debian's files.
configure() {
	say "configuring"
	cp -R "$here/common/." "$root/"
	sed -i "s|@SANDBOX_IMAGE@|$sandbox|" "$root/etc/containerd/config.toml"
	install -D -m 755 "$kubelet" "$root/usr/local/bin/kubelet"
	if [ -n "$proxy" ] && cmp -s "$kubelet" "$proxy"; then
		ln -s kubelet "$root/usr/local/bin/kube-proxy" # one program that goes by its name
	elif [ -n "$proxy" ]; then
		install -m 755 "$proxy" "$root/usr/local/bin/kube-proxy"
	else
		rm "$root/etc/systemd/system/kube-proxy.service"
	fi
	mkdir -p "$root/usr/share/osn/images" "$root/etc/cni/net.d" "$root/etc/containerd/certs.d" "$root/var/lib/kubelet"
	local archive
	for archive in "${images[@]}"; do install -m 644 "$archive" "$root/usr/share/osn/images/"; done
	# Network add-ons put their own plugins there; Debian's have to be beside them.
	mkdir -p "$root/opt/cni/bin"
	ln "$root"/usr/lib/cni/* "$root/opt/cni/bin/"
	printf '%s\n' 'auto lo' 'iface lo inet loopback' '' 'source /etc/network/interfaces.d/*' >"$root/etc/network/interfaces"
	printf '%s\n' '127.0.0.1 localhost' '::1 localhost ip6-localhost ip6-loopback' >"$root/etc/hosts"
	echo 'LABEL=osn-root / ext4 defaults,noatime,errors=remount-ro 0 1' >"$root/etc/fstab"
	[ "$format" = qcow2 ] || : >"$root/etc/fstab"
	# What is started is decided here and by the user data, not by the packages. containerd
	# is for the user data: it may have to move to another disk first.
	chroot "$root" systemctl --quiet enable ssh.service chrony.service
	chroot "$root" systemctl --quiet disable containerd.service nftables.service
	chroot "$root" systemctl --quiet mask apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer
}

# Nothing may be left of the machine that built the image, nor what has to differ between
# those that run it.
clean() {
	rm -f "$root"/etc/ssh/ssh_host_* "$root/etc/apt/apt.conf.d/99mmdebstrap" "$root/etc/hostname" "$root/etc/resolv.conf" \
		"$root/var/lib/dbus/machine-id" "$root"/var/log/*.log "$root"/var/log/apt/* "$root"/usr/sbin/policy-rc.d
	rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/cache/debconf/*-old "$root/var/lib/cloud" "$root"/tmp/*
	mkdir -p "$root/var/lib/apt/lists/partial" "$root/var/cache/apt/archives/partial"
	: >"$root/etc/machine-id"
	: >"$root/etc/resolv.conf"
	echo localhost >"$root/etc/hostname"
}

# number OFFSET VALUE FILE writes a 64-bit number, least significant byte first.
number() {
	local value=$2 bytes=''
	for _ in 1 2 3 4 5 6 7 8; do
		bytes+=$(printf '\\x%02x' $((value & 255)))
		value=$((value >> 8))
	done
	# shellcheck disable=SC2059 # the bytes are the format
	printf "$bytes" | dd of="$3" bs=1 seek="$1" conv=notrunc status=none
}

# The boot loader is put into its place by hand, because grub-install wants a real disk.
# Its first stage, in the disk's first sector, loads a sector whose number is at 0x5c;
# that sector is the beginning of the core, which loads the rest of itself from the
# sector whose number is at its 0x1f4. The core lies in a partition of its own.
install_loader() {
	local disk=$1 sector=$2 loader=$root/tmp/loader
	mkdir "$loader"
	chroot "$root" grub-mkimage --format=i386-pc --output=/tmp/loader/core.img --prefix='(hd0,gpt2)/boot/grub' \
		biosdisk part_gpt ext2 linux normal configfile search search_label serial terminal test echo
	cp "$root/usr/lib/grub/i386-pc/boot.img" "$loader/boot.img"
	number $((0x5c)) "$sector" "$loader/boot.img"
	number $((0x1f4)) $((sector + 1)) "$loader/core.img"
	[ "$(stat --format=%s "$loader/core.img")" -le $((2048 * 512)) ] || fail "the boot loader is too big"
	dd if="$loader/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
	dd if="$loader/core.img" of="$disk" bs=512 seek="$sector" conv=notrunc status=none
	rm -r "$loader"
}

loader_menu() {
	mkdir -p "$root/boot/grub"
	cat >"$root/boot/grub/grub.cfg" <<'TEXT'
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
search --no-floppy --label osn-root --set=root
linux /vmlinuz root=LABEL=osn-root ro console=tty0 console=ttyS0,115200 net.ifnames=0 quiet
initrd /initrd.img
boot
TEXT
}

make_disk() {
	local disk=$work/disk.raw loader=2048 start=4096
	say "making a disk of $size GiB"
	loader_menu
	truncate --size="${size}G" "$disk"
	sfdisk --quiet "$disk" <<TEXT
label: gpt
start=$loader, size=$((start - loader)), type=21686148-6449-6E6F-744E-656564454649
start=$start, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709
TEXT
	install_loader "$disk" "$loader"
	# The backup of the partition table needs the last 33 sectors.
	local blocks=$(((size * 1024 * 1024 * 1024 / 512 - start - 2048) * 512 / 4096))
	mke2fs -q -t ext4 -b 4096 -L osn-root -E "offset=$((start * 512)),lazy_itable_init=1" -d "$root" "$disk" "$blocks" 2>&1 |
		{ grep -v 'contains a' >&2 || true; }
	qemu-img convert -O qcow2 "$disk" "$work/disk.qcow2"
	cp -L "$root/vmlinuz" "$output.vmlinuz"
	cp -L "$root/initrd.img" "$output.initrd"
	mv "$work/disk.qcow2" "$output"
}

parse "$@"
check
# What is mounted while building is seen by nobody else, and ends with this.
[ -n "${DEBIAN12_UNSHARED-}" ] || exec env DEBIAN12_UNSHARED=1 unshare --mount -- "$0" "$@"
umask 022
output=$(realpath --canonicalize-missing "$output")
mkdir -p "$(dirname "$output")"
# Beside the result, so that it can be moved there at once.
work=$(mktemp --directory "$(dirname "$output")/.debian12-XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
trap 'exit 1' HUP INT TERM
chmod 755 "$work"
root=$work/root
install_packages
configure
clean
case $format in
dir) mv "$root" "$output" ;;
tar)
	tar --create --numeric-owner --xattrs --one-file-system --file="$work/root.tar" --directory="$root" .
	mv "$work/root.tar" "$output"
	;;
qcow2) make_disk ;;
esac
say "made $output"
