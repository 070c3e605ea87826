// SPDX-License-Identifier: Apache-2.0

// Package unit reads systemd's unit files: where they are, their drop-ins, aliases and
// instances of templates, and the command lines in them. It also makes and removes the
// links that enable units. It runs nothing.
//
// All paths are below a root directory, so that it can be used from outside a machine and
// in tests. It imports nothing but the standard library.
package unit
