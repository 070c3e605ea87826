#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs libvirtd with other directories where it looks for the machine's: those below the first argument and, for what it
# has found out about QEMU, the second. It is to be started in a mount namespace of its own.
set -eu
mkdir -p "$2"
for pair in "$1/etc:/etc/libvirt" "$1/run:/run/libvirt" "$1/lib:/var/lib/libvirt" "$1/log:/var/log/libvirt" "$2:/var/cache/libvirt"; do
    mkdir -p "${pair#*:}"
    mount --bind "${pair%%:*}" "${pair#*:}"
done
exec /usr/sbin/libvirtd
