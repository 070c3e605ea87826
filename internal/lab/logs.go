// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cloudveneto/caas/internal/lab/node"
)

const followInterval = 200 * time.Millisecond

// Logs returns the log files of the lab by the names of what wrote them: CLUSTER/COMPONENT for a control plane,
// NODE/COMPONENT for a node, openstack/SERVICE for a service of the cloud, SERVER/console for what became of one of its
// servers, and the process' name for everything else.
func (l *Lab) Logs() (map[string]string, error) {
	logs := map[string]string{}
	for _, cluster := range l.clusters() {
		if plane, err := cluster.ControlPlane(); err == nil {
			for _, component := range plane.Components() {
				logs[cluster.Name+"/"+component] = plane.LogFile(component)
			}
		}
		for _, n := range l.nodesOf(cluster.plan) {
			for _, component := range node.Components() {
				logs[n.name+"/"+component] = node.Log(l.nodeDir(n.name), component)
			}
		}
	}
	processes, err := l.processes()
	if err != nil {
		return nil, err
	}
	for _, process := range processes {
		if !strings.HasPrefix(process.Name(), "node-") {
			logs[process.Name()] = process.Spec().LogFile
		}
	}
	maps.Copy(logs, l.cloudLogs())
	return logs, nil
}

// LogNames lists the names that WriteLog takes.
func (l *Lab) LogNames() ([]string, error) {
	logs, err := l.Logs()
	return slices.Sorted(maps.Keys(logs)), err
}

// WriteLog copies a log to out, and with follow what is added to it until ctx is done.
func (l *Lab) WriteLog(ctx context.Context, out io.Writer, name string, follow bool) error {
	logs, err := l.Logs()
	if err != nil {
		return err
	}
	path, known := logs[name]
	if !known {
		return fmt.Errorf("there is no log %q: want one of\n  %s", name, strings.Join(slices.Sorted(maps.Keys(logs)), "\n  "))
	}
	file, err := os.Open(filepath.Clean(path))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s has written no log", name)
	}
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	for {
		if _, err := io.Copy(out, file); err != nil {
			return fmt.Errorf("show log: %w", err)
		}
		if !follow {
			return nil
		}
		pause(ctx, followInterval)
		if ctx.Err() != nil {
			return nil
		}
	}
}
