// SPDX-License-Identifier: Apache-2.0

// Package settings owns the configuration file of the virtual kubelet: upstream
// interLink's keys, with their meaning there, and this project's own.
//
//	s, err := settings.Load(path, settings.Environment{NodeName: "far-away"})
//
// Unknown keys are errors, as are keys that ask for something this virtual
// kubelet does not do: a key that silently does nothing is worse than none. All
// problems of a file are reported at once.
package settings
