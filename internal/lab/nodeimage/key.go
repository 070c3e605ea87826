// SPDX-License-Identifier: Apache-2.0

package nodeimage

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/cloudveneto/caas/internal/lab/image"
)

const (
	scripts = "deploy/images"
	script  = "debian12.sh"
	// keyLength is enough to tell images apart and short enough to read.
	keyLength = 16
)

// key names all that goes into the image, but for the versions of Debian's packages: an
// image in the cache is not built anew because one of them was updated.
func (c *Config) key(pause image.Image) (string, error) {
	sum := sha256.New()
	_, _ = fmt.Fprintln(sum, runtime.GOARCH, filepath.Base(pause.Layout), pause.Reference)
	for _, program := range []string{"kubelet", "kube-proxy"} {
		// Too big to be read each time; the cache's programs never change.
		path, err := filepath.EvalSymlinks(filepath.Join(c.Kubernetes, program))
		if err != nil {
			return "", fmt.Errorf("find %s: %w", program, err)
		}
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		_, _ = fmt.Fprintln(sum, program, path, info.Size(), info.ModTime().UnixNano())
	}
	dir := filepath.Join(c.Source, filepath.FromSlash(scripts))
	if err := hashFile(sum, dir, script); err != nil {
		return "", err
	}
	// In the order of their names.
	err := filepath.WalkDir(filepath.Join(dir, "common"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return hashFile(sum, dir, name)
	})
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil))[:keyLength], nil
}

func hashFile(sum hash.Hash, dir, name string) error {
	file, err := os.Open(filepath.Clean(filepath.Join(dir, name)))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintln(sum, filepath.ToSlash(name), info.Mode().Perm(), info.Size())
	_, err = io.Copy(sum, file)
	return err
}
