// SPDX-License-Identifier: Apache-2.0

// Package gobuild builds programs from the nested modules under hack/ once, into a cache shared by everybody who needs
// them: the lab, and tests in several processes at a time.
//
// The cache directory of a build is named after everything that goes into it (module files, sources, toolchain, linker
// flags) and appears by a rename, so it is complete whenever it exists.
//
//	root, err := gobuild.FindSource("")
//	dir, err := gobuild.Build(ctx, gobuild.Config{Source: root, Target: target})
//
// The package imports no other package of this repository.
package gobuild
