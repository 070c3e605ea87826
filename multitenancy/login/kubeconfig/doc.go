// SPDX-License-Identifier: Apache-2.0

// Package kubeconfig reads and changes kubeconfigs without client-go, which is larger than the
// whole program, and without losing anything: what is not this program's stays as it is, byte by
// byte, with comments, order and fields that nobody knows.
//
// A change is spliced into the text where its entries are. The result is compared with the same
// change made to the parsed file; when they differ, or the file is written in a style that cannot be
// spliced, such as JSON, the parsed file is written anew, after a backup.
//
// Files are replaced by renaming, under kubectl's own lock: whenever the program dies, the file is
// either the old one or the new one.
package kubeconfig
