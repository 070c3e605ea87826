// SPDX-License-Identifier: Apache-2.0

package openstack

// Exported for tests.
var (
	NewProject = project
	FreeSubnet = freeSubnet
	EnsureKey  = ensureKey
)

// Complete fills the defaults in.
func (c Config) Complete() (Config, error) { return c.complete() }
