// SPDX-License-Identifier: Apache-2.0

package cloud

import "slices"

// Status is a server's status in Nova's words.
type Status string

// Nova's statuses; source: nova/api/openstack/common.py.
const (
	StatusActive           Status = "ACTIVE"
	StatusBuild            Status = "BUILD"
	StatusDeleted          Status = "DELETED"
	StatusError            Status = "ERROR"
	StatusHardReboot       Status = "HARD_REBOOT"
	StatusMigrating        Status = "MIGRATING"
	StatusPassword         Status = "PASSWORD"
	StatusPaused           Status = "PAUSED"
	StatusReboot           Status = "REBOOT"
	StatusRebuild          Status = "REBUILD"
	StatusRescue           Status = "RESCUE"
	StatusResize           Status = "RESIZE"
	StatusRevertResize     Status = "REVERT_RESIZE"
	StatusShelved          Status = "SHELVED"
	StatusShelvedOffloaded Status = "SHELVED_OFFLOADED"
	StatusShutoff          Status = "SHUTOFF"
	StatusSoftDeleted      Status = "SOFT_DELETED"
	StatusSuspended        Status = "SUSPENDED"
	StatusUnknown          Status = "UNKNOWN"
	StatusVerifyResize     Status = "VERIFY_RESIZE"
)

// Gone tells that the server exists in Nova's memory only.
func (s Status) Gone() bool { return s == StatusDeleted || s == StatusSoftDeleted }

// Building tells that the server is not there yet.
func (s Status) Building() bool { return s == StatusBuild }

// Stopped tells that the server does not run, because somebody wanted that.
func (s Status) Stopped() bool {
	return slices.Contains([]Status{
		StatusShutoff, StatusPaused, StatusSuspended, StatusShelved, StatusShelvedOffloaded, StatusRescue,
	}, s)
}

// Running tells that the server runs, maybe with something being done to it.
func (s Status) Running() bool {
	return slices.Contains([]Status{
		StatusActive, StatusReboot, StatusHardReboot, StatusMigrating, StatusPassword, StatusResize,
		StatusRevertResize, StatusVerifyResize, StatusRebuild,
	}, s)
}
