// SPDX-License-Identifier: Apache-2.0

package main

import "golang.org/x/sys/unix"

// leaveNoCore keeps passwords and tokens out of core dumps. The limit is for those that are
// files; those that a program of the system collects, as systemd's, heed the flag only.
func leaveNoCore() {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) // lowering it is always allowed
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)     // as is this
}
