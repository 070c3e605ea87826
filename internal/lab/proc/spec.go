// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// ErrRunning is returned by Start when the run directory already records a live process of that name.
var ErrRunning = errors.New("already running")

// Spec describes a process.
type Spec struct {
	// Name is unique within a run directory and names the record file.
	Name string `json:"name"`
	// Path is the program: an absolute path, or a name that is looked up in PATH.
	Path string `json:"path"`
	// Args are the arguments, without the program's name.
	Args []string `json:"args,omitempty"`
	// Env is added to the environment of the starter.
	Env []string `json:"env,omitempty"`
	// Dir is the working directory; empty means the run directory.
	Dir string `json:"dir,omitempty"`
	// LogFile receives standard output and standard error, appended; empty means <name>.log in the run directory.
	LogFile string `json:"logFile,omitempty"`
	// NetNS is the path of the network namespace to run in, such as /run/netns/x; empty means the starter's.
	NetNS string `json:"netNS,omitempty"`
	// EndWithStarter has the kernel kill the process when the starter ends, however that happens. It is meant for
	// tests, which may be interrupted or may time out.
	EndWithStarter bool `json:"endWithStarter,omitempty"`
}

// complete returns the spec with its defaults filled in, or what is wrong with it.
func (s Spec) complete(runDir string) (Spec, error) {
	switch {
	case s.Name == "" || strings.ContainsAny(s.Name, "/\x00") || strings.HasPrefix(s.Name, "."):
		return s, fmt.Errorf("process name %q is not a plain file name", s.Name)
	case s.Path == "":
		return s, fmt.Errorf("process %q has no program", s.Name)
	}
	if s.Dir == "" {
		s.Dir = runDir
	}
	if s.LogFile == "" {
		s.LogFile = filepath.Join(runDir, s.Name+".log")
	}
	return s, nil
}

// command returns the program and arguments that run the spec. nsenter replaces itself by the program, so the process
// keeps the id that it was started with.
func (s Spec) command() (program string, args []string) {
	if s.NetNS == "" {
		return s.Path, s.Args
	}
	return "nsenter", append([]string{"--net=" + s.NetNS, "--", s.Path}, s.Args...)
}
