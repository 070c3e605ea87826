// SPDX-License-Identifier: Apache-2.0

// Package proc runs detached processes that outlive the command that started them.
//
// A process is described by a Spec, runs in a session of its own with its output appended to a log file, and is found
// again through a record file in a run directory. The record names the process by id, start time and boot, so that
// a process which merely inherited the number is never mistaken for it, and is never signalled.
//
//	p, err := proc.Start(ctx, "/run/lab", proc.Spec{Name: "etcd", Path: "/opt/etcd", LogFile: "/run/lab/etcd.log"})
//	…
//	p, err = proc.Load("/run/lab", "etcd") // from another process, later
//	err = p.Stop(ctx, 5*time.Second)
//
// The package imports nothing but the standard library.
package proc
