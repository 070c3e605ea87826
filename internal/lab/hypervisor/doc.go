// SPDX-License-Identifier: Apache-2.0

// Package hypervisor is what runs the servers of the lab's OpenStack: Nova asks it over
// a unix socket, with HTTP and JSON, for servers to be spawned, switched and destroyed.
//
// Machines is the driver that makes of each server a machine: namespaces and a root file
// system of its own, in which package guest boots the node image as a real machine would,
// with cloud-init and services. None makes nothing of them. Other drivers, such as
// package joiner, are served by Handler as well.
//
//	machines, err := hypervisor.NewMachines(hypervisor.Config{Lab: "lab", Dir: dir, LAN: lan, Root: image.Root})
//	…
//	err = hypervisor.Serve(ctx, socket, machines)
//
// Machines outlive the program that made them, and are found again by their directories.
package hypervisor
