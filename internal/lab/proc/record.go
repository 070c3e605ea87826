// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const recordSuffix = ".json"

// record is what is kept of a process in the run directory.
type record struct {
	PID       int    `json:"pid"`
	StartTime uint64 `json:"startTime"`
	BootID    string `json:"bootID"`
	Spec      Spec   `json:"spec"`
}

// write stores the record so that a reader sees either nothing or all of it.
func (r record) write(path string) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode process record: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("create process record: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // nothing is left there once it was renamed
	if _, err := tmp.Write(append(data, '\n')); err != nil {
		return errors.Join(fmt.Errorf("write process record: %w", err), tmp.Close())
	}
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("write process record: %w", err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("store process record: %w", err)
	}
	return nil
}

// Load finds the process that was started under name. The error is os.ErrNotExist when there is no record of it; a
// process that ended by itself still has one.
func Load(runDir, name string) (*Process, error) {
	path := filepath.Join(runDir, name+recordSuffix)
	rec, err := load(path)
	if err != nil {
		return nil, err
	}
	return &Process{path: path, rec: rec}, nil
}

func load(path string) (rec record, err error) {
	data, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return rec, fmt.Errorf("read process record: %w", err)
	}
	if err := json.Unmarshal(data, &rec); err != nil {
		return rec, fmt.Errorf("decode process record %s: %w", path, err)
	}
	return rec, nil
}

// All returns every process with a record in the run directory, by name. A directory that does not exist has none.
func All(runDir string) ([]*Process, error) {
	entries, err := os.ReadDir(runDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list process records: %w", err)
	}
	var all []*Process
	for _, entry := range entries {
		name, isRecord := strings.CutSuffix(entry.Name(), recordSuffix)
		if !isRecord || entry.IsDir() || strings.HasPrefix(name, ".") {
			continue
		}
		p, err := Load(runDir, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // stopped meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}
