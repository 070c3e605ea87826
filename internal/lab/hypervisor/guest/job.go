// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudveneto/caas/internal/lab/hypervisor/unit"
	"github.com/cloudveneto/caas/internal/lab/node"
)

const (
	// defaultTimeout is how long a service may take to start or to stop.
	defaultTimeout = 90 * time.Second
	// defaultRestart is how long a service that ended stays down.
	defaultRestart = 100 * time.Millisecond
	// defaultBurst starts within defaultInterval are as many as a service gets.
	defaultBurst    = 5
	defaultInterval = 10 * time.Second
)

// job is how the processes of a service are run.
type job struct {
	unit       *unit.Unit
	variables  map[string]string
	credential *syscall.Credential
	dir, log   string
}

// newJob prepares the processes of a service whose main one is mainPID, 0 for none.
func newJob(loaded *unit.Unit, mainPID int) (*job, error) {
	variables, err := loaded.Environment("/")
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, variable := range baseEnvironment() {
		name, value, _ := strings.Cut(variable, "=")
		all[name] = value
	}
	maps.Copy(all, variables)
	if mainPID != 0 {
		all["MAINPID"] = strconv.Itoa(mainPID)
	}
	j := &job{unit: loaded, variables: all, dir: strings.TrimPrefix(loaded.Last("Service", "WorkingDirectory"), "-"), log: filepath.Join(logDir, loaded.Name+".log")}
	if j.dir == "" {
		j.dir = "/"
	}
	if name := loaded.Last("Service", "User"); name != "" {
		if j.credential, err = credential(name, loaded.Last("Service", "Group")); err != nil {
			return nil, err
		}
	}
	return j, j.makeDirectories()
}

// makeDirectories makes those below /run and the like that the service asks for.
func (j *job) makeDirectories() error {
	for key, parent := range map[string]string{
		"RuntimeDirectory": "/run", "StateDirectory": "/var/lib", "CacheDirectory": "/var/cache", "LogsDirectory": "/var/log",
	} {
		for _, name := range j.unit.Words("Service", key) {
			path := filepath.Join(parent, name)
			if err := os.MkdirAll(path, mode); err != nil {
				return err
			}
			if j.credential == nil {
				continue
			}
			if err := os.Chown(path, int(j.credential.Uid), int(j.credential.Gid)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (j *job) program(command unit.Command) node.Program {
	environment := make([]string, 0, len(j.variables))
	for _, name := range slices.Sorted(maps.Keys(j.variables)) {
		environment = append(environment, name+"="+j.variables[name])
	}
	program := node.Program{
		Name: j.unit.Name, Path: command.Path, Args: command.Args, Log: j.log, Env: environment, Dir: j.dir, Credential: j.credential,
	}
	if command.Privileged {
		program.Credential = nil
	}
	return program
}

// restarts tells whether a service that ended with status by itself is started again.
func (j *job) restarts(status unix.WaitStatus) bool {
	clean := status.Exited() && status.ExitStatus() == 0 ||
		status.Signaled() && slices.Contains([]syscall.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGPIPE}, status.Signal())
	switch j.unit.Last("Service", "Restart") {
	case "always":
		return true
	case "on-success":
		return clean
	case "on-failure":
		return !clean
	case "on-abnormal", "on-abort", "on-watchdog":
		return !clean && status.Signaled()
	default:
		return false
	}
}

// retries tells whether a service that could not be started is tried again.
func (j *job) retries() bool {
	policy := j.unit.Last("Service", "Restart")
	return policy == "always" || policy == "on-failure"
}

// limit says how many starts in how much time are too many; no limit when one is 0.
func (j *job) limit() (burst int, interval time.Duration) {
	burst, interval = defaultBurst, defaultInterval
	for _, section := range []string{"Unit", "Service"} {
		if value, err := strconv.Atoi(j.unit.Last(section, "StartLimitBurst")); err == nil {
			burst = value
		}
		for _, key := range []string{"StartLimitIntervalSec", "StartLimitInterval"} {
			if text := j.unit.Last(section, key); text != "" {
				interval = unit.ParseDuration(text, interval)
			}
		}
	}
	return burst, interval
}

// signal is the one that asks the service to end.
func (j *job) signal() syscall.Signal {
	if name := j.unit.Last("Service", "KillSignal"); name != "" {
		if number := unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG")); number != 0 {
			return number
		}
	}
	return unix.SIGTERM
}

// wholeGroup tells whether ending the service ends more than its main process.
func (j *job) wholeGroup() bool { return j.unit.Last("Service", "KillMode") != "process" }

// credential is the user that a service runs as, by name or number.
func credential(name, group string) (*syscall.Credential, error) {
	fields, err := account("/etc/passwd", name)
	if err != nil {
		return nil, err
	}
	if len(fields) < 4 {
		return nil, fmt.Errorf("user %q is not described well", name)
	}
	gid := fields[3]
	if group != "" {
		fields, err := account("/etc/group", group)
		if err != nil {
			return nil, err
		}
		gid = fields[2]
	}
	u, problem := strconv.ParseUint(fields[2], 10, 32)
	g, err := strconv.ParseUint(gid, 10, 32)
	if err := errors.Join(problem, err); err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(u), Gid: uint32(g)}, nil
}

// account is the line of a file of users or groups for a name or a number. The machine's
// own library for that may not be this program's.
func account(path, name string) ([]string, error) {
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		fields := strings.Split(scanner.Text(), ":")
		if len(fields) >= 3 && (fields[0] == name || fields[2] == name) {
			return fields, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("%s has no %q", path, name), scanner.Err())
}
