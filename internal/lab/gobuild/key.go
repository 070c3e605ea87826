// SPDX-License-Identifier: Apache-2.0

package gobuild

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keyLength is enough to tell builds apart and short enough to read.
const keyLength = 16

// Key returns the name of everything that decides what the build makes: toolchain, target, module files and sources.
func (t Target) Key(moduleDir, toolchain string) (string, error) {
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%s\n%s\n%s\n%s\n%s\n", toolchain, t.Name, t.Package, t.LDFlags, strings.Join(t.Links, " "))
	err := filepath.WalkDir(moduleDir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !isSource(entry.Name()) {
			return err
		}
		rel, err := filepath.Rel(moduleDir, path)
		if err != nil {
			return err
		}
		return hashFile(sum, rel, path)
	})
	if err != nil {
		return "", fmt.Errorf("hash sources of %s: %w", t.Name, err)
	}
	return hex.EncodeToString(sum.Sum(nil))[:keyLength], nil
}

func isSource(name string) bool {
	return name == "go.mod" || name == "go.sum" || strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go")
}

func hashFile(sum hash.Hash, name, path string) error {
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read
	info, err := file.Stat()
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(sum, "%s %d\n", name, info.Size())
	_, err = io.Copy(sum, file)
	return err
}
