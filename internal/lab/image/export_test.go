// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"io"
)

// HostSources gives tests the package sources that an image is built from.
func HostSources(etc, release, work string) ([]string, error) {
	return hostSources(etc, release, work)
}

// CopyRoot gives tests what of a root file system becomes a layer.
func CopyRoot(out io.Writer, root io.Reader, exclude []string) error {
	expression, err := patterns(exclude)
	if err != nil {
		return err
	}
	writer := &layerWriter{tar: tar.NewWriter(out), seen: map[string]bool{}}
	if err := writer.copyRoot(tar.NewReader(root), expression); err != nil {
		return err
	}
	return writer.tar.Close()
}
