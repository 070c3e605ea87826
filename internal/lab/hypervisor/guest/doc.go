// SPDX-License-Identifier: Apache-2.0

// Package guest is the inside of a machine that is namespaces: what a real one's
// firmware, kernel and service manager do. Init, the machine's first process, makes the
// node image its root file system with what a machine finds beside it (/proc, /sys, /dev,
// cgroups, a second disk), runs cloud-init's stages in their order, and runs services by
// their unit files. Systemctl is the machine's systemctl and asks Init.
//
// The second disk of a flavor is a loop device over a sparse file, /dev/vdb in the machine,
// with a file system that has the label ephemeral0, as Nova delivers it. Tools that ask the
// kernel for its name or kind are told of a loop device, and it has no partitions. Where
// the kernel gives no loop devices, the machine has no second disk and the console says so.
//
// A machine sees processors and memory of its own size, and cannot change kernel settings
// that it shares with the machine it is on, nor its clock. It can switch itself off but not
// on again: a reboot is asked for outside. Services are what systemctl knows; timers,
// sockets and mounts of systemd are not, and /etc/fstab is mounted at boot.
package guest
