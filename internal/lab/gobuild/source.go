// SPDX-License-Identifier: Apache-2.0

package gobuild

import (
	"fmt"
	"os"
	"path/filepath"
)

const (
	// SourceEnv names the environment variable with the directory of the source tree.
	SourceEnv = "CAAS_LAB_SOURCE"
	// CacheEnv names the environment variable with the cache directory.
	CacheEnv = "CAAS_LAB_CACHE"

	// marker is a file that only the root of the source tree has.
	marker = "hack/kube/go.mod"
)

// FindSource returns the root of the source tree: dir when given, else what CAAS_LAB_SOURCE says, else the nearest
// parent of the working directory that holds hack/kube/go.mod.
func FindSource(dir string) (string, error) {
	if dir == "" {
		dir = os.Getenv(SourceEnv)
	}
	if dir != "" {
		if _, err := os.Stat(filepath.Join(dir, marker)); err != nil { //nolint:gosec // the user says where the source is
			return "", fmt.Errorf("%s is not the source tree: %w", dir, err)
		}
		return filepath.Abs(dir)
	}
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find source tree: %w", err)
	}
	for dir = start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, marker)); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no parent of %s holds %s: run this in the source tree or set %s", start, marker, SourceEnv)
		}
	}
}

// CacheDir returns the cache directory: what CAAS_LAB_CACHE says, else caas-lab in the user's cache directory.
func CacheDir() (string, error) {
	if dir := os.Getenv(CacheEnv); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find cache directory (or set %s): %w", CacheEnv, err)
	}
	return filepath.Join(dir, "caas-lab"), nil
}
