// SPDX-License-Identifier: Apache-2.0

// Package userdata reads the user data of a server as cloud-init does, without running
// any of it: MIME multiparts in each other, gzip, archives and plain cloud-config, of
// which it returns the files that cloud-init would write. It fetches nothing, so parts
// that only name others are passed over.
//
// It imports the standard library and a YAML parser.
package userdata
