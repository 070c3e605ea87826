#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Installs the Debian packages that the lab needs: those of its nodes and images, and
# Keystone, which knows its users; with the arguments openstack and vms those of its cloud
# and of virtual machines, too. Says what it does; does nothing when all of them are there.
# Needs root and apt.
set -eu

# Whatever internal/lab/node lists as its requirements comes from these, and what
# internal/lab/openstack lists for Keystone alone; python3-numpy is for the tests of the
# physics example.
packages="
  busybox-static
  ca-certificates
  containerd
  containernetworking-plugins
  iproute2
  iptables
  mmdebstrap
  mount
  nftables
  python3-keystone
  python3-numpy
  runc
  util-linux
  uwsgi-core
  uwsgi-plugin-python3
"

# internal/lab/openstack lists what it needs. The servers' own packages (nova-api and so on)
# are not among them: the lab starts the programs itself.
openstack="
  glance-api
  neutron-common
  nova-common
  python3-placement
"
vms="
  $openstack
  e2fsprogs
  fdisk
  genisoimage
  libvirt-clients
  libvirt-daemon-system
  nova-compute
  nova-compute-qemu
  python3-libvirt
  qemu-system-x86
  qemu-utils
"

for group in "$@"; do
	case $group in
	openstack) packages="$packages $openstack" ;;
	vms) packages="$packages $vms" ;;
	*)
		echo "install-packages: no group $group; there are openstack and vms" >&2
		exit 2
		;;
	esac
done

installed() {
	[ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

fail() {
	printf 'install-packages: %s\n' "$*" >&2
	exit 1
}

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
	fail "this machine has no apt; install the equivalent of:" $packages
fi

missing=
for package in $packages; do
	installed "$package" || missing="$missing $package"
done
if [ -z "$missing" ]; then
	echo "install-packages: all packages are installed"
	exit 0
fi
[ "$(id -u)" = 0 ] || fail "run as root to install:$missing"

# Installing must not start services: the lab runs its own containerd. Somebody else's
# policy stays as it is.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi

echo "install-packages: installing$missing"
export DEBIAN_FRONTEND=noninteractive
install() {
	# shellcheck disable=SC2086 # one word for each package
	apt-get install --yes --no-install-recommends -o Dpkg::Use-Pty=0 $missing
}
if ! install; then
	echo "install-packages: trying again with new package lists"
	apt-get update
	install || fail "apt-get could not install:$missing"
fi
