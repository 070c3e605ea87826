// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

const (
	// startTimeout bounds the time until containerd answers and the kubelet runs.
	startTimeout = 2 * time.Minute
	// stopTimeout bounds the time that what a killed node held is waited for.
	stopTimeout = 20 * time.Second

	startedFile = "started"
	pidFile     = "holder.pid"
)

// Start makes the node and returns when its kubelet runs; the Node object becomes
// Ready a little later. A node that runs already is left alone; what a dead one left
// is removed first. A node that does not start is removed again, except its logs.
func Start(ctx context.Context, config Config) error {
	if err := config.complete(); err != nil {
		return err
	}
	running, err := Running(config.RunDir, config.Name)
	if err != nil || running {
		return err
	}
	removal := Removal{Lab: config.Lab, Name: config.Name, Dir: config.Dir, RunDir: config.RunDir}
	if err := Stop(ctx, removal); err != nil {
		return err
	}
	if err := start(ctx, &config); err != nil {
		err = fmt.Errorf("start node %q: %w", config.Name, err)
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*stopTimeout)
		defer cancel()
		removal.KeepLogs = true
		return errors.Join(err, Stop(cleanup, removal))
	}
	return nil
}

// Running tells whether the node's holder runs.
func Running(runDir, name string) (bool, error) {
	process, err := proc.Load(runDir, recordName(name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for node %q: %w", name, err)
	}
	return process.Alive(), nil
}

func start(ctx context.Context, config *Config) error {
	if err := writeFiles(config); err != nil {
		return err
	}
	if err := CreateCgroup(cgroup(config.Lab, config.Name)); err != nil {
		return err
	}
	if err := network.CreateNamespace(ctx, config.Namespace()); err != nil {
		return err
	}
	err := network.Attach(ctx, network.Port{
		LAN: config.LAN, Namespace: config.Namespace(), Address: config.Address, Gateway: config.Gateway,
	})
	if err != nil {
		return err
	}
	if err := network.Refuse(ctx, config.Namespace(), config.PodSubnet); err != nil {
		return err
	}
	if err := network.AddRoute(ctx, config.LAN, config.PodSubnet, config.Address.Addr()); err != nil {
		return err
	}
	// unshare stays as the holder's parent, since only a new process can be the first of
	// a process namespace, and takes the holder along when it is killed.
	process, err := proc.Start(ctx, config.RunDir, proc.Spec{
		Name: recordName(config.Name),
		Path: "unshare",
		Args: []string{
			"--mount", "--uts", "--pid", "--fork", "--kill-child", "--",
			config.Executable, command, config.path(configFile),
		},
		Dir: "/", LogFile: Log(config.Dir, "holder"), NetNS: config.netNS(),
	})
	if err != nil {
		return err
	}
	return awaitStart(ctx, config, process)
}

func awaitStart(ctx context.Context, config *Config, process *proc.Process) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if _, err := os.Stat(config.path(startedFile)); err == nil {
			return nil
		}
		if !process.Alive() {
			return fmt.Errorf("its holder ended: %s", logEnd(config.Dir, "holder"))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it does not come up: %w: %s", ctx.Err(), logEnd(config.Dir, "holder"))
		case <-ticker.C:
		}
	}
}

// logEnd is the end of a component's log, for an error message.
func logEnd(dir, component string) string {
	const length = 800
	data, err := os.ReadFile(Log(dir, component))
	if err != nil {
		return "it has no log"
	}
	return "…" + string(data[max(0, len(data)-length):])
}

func writeFiles(config *Config) error {
	for _, dir := range []string{"log", "tmp"} {
		if err := os.MkdirAll(config.path(dir), 0o750); err != nil {
			return err
		}
	}
	for _, bind := range binds() {
		if err := os.MkdirAll(config.path(bind.name), 0o750); err != nil {
			return err
		}
	}
	files, err := makeFiles(config)
	if err != nil {
		return err
	}
	for name, content := range files {
		path := config.path(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// makeFiles returns the contents of a node's files by their paths in its directory.
func makeFiles(config *Config) (map[string][]byte, error) {
	found, err := look(config.Dir)
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(config.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read CA certificate: %w", err)
	}
	proxyKubeconfig, err := os.ReadFile(config.ProxyKubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kube-proxy's kubeconfig: %w", err)
	}
	files, err := config.files(found, ca, proxyKubeconfig)
	if err != nil {
		return nil, fmt.Errorf("make configuration: %w", err)
	}
	if files[configFile], err = json.MarshalIndent(config, "", "  "); err != nil {
		return nil, fmt.Errorf("make configuration: %w", err)
	}
	return files, nil
}
