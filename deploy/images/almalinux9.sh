#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the node image with AlmaLinux 9, from its cloud image. See
# docs/guides/node-images.md for what such an image has to have.
#
# It needs a machine with AlmaLinux, Rocky Linux, RHEL, CentOS Stream or Fedora and the
# package guestfs-tools: packages are installed by dnf inside a small virtual machine, for
# which that machine's kernel and libguestfs have to fit a guest with SELinux and xfs.
# Elsewhere it refuses; debian12.sh runs anywhere that has mmdebstrap.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)

usage() {
	cat <<'TEXT'
usage: almalinux9.sh --base IMAGE --containerd TAR --kubelet PATH --output PATH [options]

  --base IMAGE          AlmaLinux's cloud image, AlmaLinux-9-GenericCloud-*.qcow2
  --containerd TAR      containerd's release, containerd-*-linux-amd64.tar.gz: AlmaLinux has no package of it
  --kubelet PATH        the kubelet's program, 1.32 or later
  --output PATH         the qcow2 image to make; it must not exist
  --kube-proxy PATH     the program of kube-proxy, for clusters whose network needs it
  --image TAR           an archive with container images that containerd shall have from the start;
                        may be repeated
  --sandbox-image NAME  the image that holds a pod's namespaces (default: registry.k8s.io/pause:3.10.1)
  --include PACKAGES    more packages, separated by commas
TEXT
}

fail() {
	printf 'almalinux9.sh: %s\n' "$*" >&2
	exit 1
}

say() { printf 'almalinux9.sh: %s\n' "$*" >&2; }

packages=(
	chrony cloud-init cloud-utils-growpart conntrack-tools container-selinux containernetworking-plugins e2fsprogs
	ethtool gdisk iproute iproute-tc iptables-nft nftables runc socat tar xfsprogs
)
base='' containerd='' kubelet='' proxy='' output='' sandbox=registry.k8s.io/pause:3.10.1
images=()

parse() {
	while [ $# -gt 0 ]; do
		case $1 in
		--help | -h) usage; exit 0 ;;
		--base | --containerd | --kubelet | --kube-proxy | --output | --image | --sandbox-image | --include)
			[ $# -ge 2 ] || fail "$1 needs a value" ;;
		*) fail "what is $1? See --help" ;;
		esac
		case $1 in
		--base) base=$2 ;;
		--containerd) containerd=$2 ;;
		--kubelet) kubelet=$2 ;;
		--kube-proxy) proxy=$2 ;;
		--output) output=$2 ;;
		--image) images+=("$2") ;;
		--sandbox-image) sandbox=$2 ;;
		--include) IFS=, read -ra more <<<"$2" && packages+=("${more[@]}") ;;
		esac
		shift 2
	done
}

check() {
	# shellcheck source=/dev/null
	. /etc/os-release
	case " $ID ${ID_LIKE-} " in
	*" rhel "* | *" fedora "* | *" centos "*) ;;
	*) fail "this is $PRETTY_NAME; building needs AlmaLinux, RHEL or one of their kind, or use debian12.sh" ;;
	esac
	command -v virt-customize >/dev/null || fail "virt-customize is missing: install the package guestfs-tools"
	command -v qemu-img >/dev/null || fail "qemu-img is missing: install the package qemu-img"
	local value
	for value in "$base" "$containerd" "$kubelet" "$output"; do
		[ -n "$value" ] || fail "an argument is missing, see --help"
	done
	[ ! -e "$output" ] || fail "$output exists"
	[[ $sandbox =~ ^[A-Za-z0-9][A-Za-z0-9._/:@-]*$ ]] || fail "--sandbox-image is $sandbox: want an image's name"
	local file
	for file in "$base" "$containerd" "$kubelet" ${proxy:+"$proxy"} "${images[@]}"; do
		[ -r "$file" ] || fail "$file cannot be read"
	done
}

# All files of ours, as they shall be in the image.
gather() {
	local tree=$work/tree
	mkdir -p "$tree/usr/local/bin" "$tree/usr/share/osn/images" "$tree/etc/cni/net.d" "$tree/etc/containerd/certs.d" "$tree/var/lib/kubelet"
	cp -R "$here/common/." "$tree/"
	sed -i "s|@SANDBOX_IMAGE@|$sandbox|" "$tree/etc/containerd/config.toml"
	tar --extract --file="$containerd" --directory="$tree/usr/local"
	install -m 755 "$kubelet" "$tree/usr/local/bin/kubelet"
	if [ -n "$proxy" ]; then
		install -m 755 "$proxy" "$tree/usr/local/bin/kube-proxy"
	else
		rm "$tree/etc/systemd/system/kube-proxy.service"
	fi
	local archive
	for archive in "${images[@]}"; do install -m 644 "$archive" "$tree/usr/share/osn/images/"; done
	cat >"$tree/etc/systemd/system/containerd.service" <<'TEXT'
[Unit]
Description=containerd: the container runtime
Documentation=https://containerd.io
After=network.target local-fs.target

[Service]
ExecStart=/usr/local/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-999

[Install]
WantedBy=multi-user.target
TEXT
	tar --create --owner=0 --group=0 --file="$work/tree.tar" --directory="$tree" .
}

customize() {
	local list
	list=$(IFS=, && echo "${packages[*]}")
	say "installing ${#packages[@]} packages and what they need"
	# SELinux stays on to report, but does not refuse: containerd's release has no policy.
	virt-customize --quiet --add "$work/image.qcow2" --memsize 2048 --smp 2 \
		--install "$list" \
		--upload "$work/tree.tar:/var/tmp/tree.tar" \
		--run-command 'tar --extract --no-overwrite-dir --file=/var/tmp/tree.tar --directory=/' \
		--delete /var/tmp/tree.tar \
		--run-command 'mkdir -p /opt/cni/bin && ln -f /usr/libexec/cni/* /opt/cni/bin/' \
		--run-command 'systemctl disable containerd kubelet; systemctl enable chronyd sshd; if systemctl cat firewalld >/dev/null 2>&1; then systemctl disable firewalld; fi' \
		--edit '/etc/selinux/config:s/^SELINUX=.*/SELINUX=permissive/' \
		--run-command 'dnf clean all && cloud-init clean --logs && rm -f /etc/ssh/ssh_host_*' \
		--truncate /etc/machine-id \
		--selinux-relabel >&2
}

parse "$@"
check
umask 022
output=$(realpath --canonicalize-missing "$output")
mkdir -p "$(dirname "$output")"
work=$(mktemp --directory "$(dirname "$output")/.almalinux9-XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
gather
qemu-img convert -O qcow2 "$base" "$work/image.qcow2"
customize
mv "$work/image.qcow2" "$output"
say "made $output"
