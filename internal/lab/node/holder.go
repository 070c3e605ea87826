// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudveneto/caas/internal/lab/image"
	"github.com/cloudveneto/caas/internal/logging"
)

const (
	containerdSocket = "/run/containerd/containerd.sock"
	// searchPath has the programs that containerd, kubelet and kube-proxy call.
	searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	// restartDelay is how long a component that died stays down.
	restartDelay = time.Second
)

// Main is the node's holder. It runs as the first process of a process namespace,
// with network, mount and host name namespaces of the node, makes the node's mounts,
// runs its components until ctx ends, restarts those that die, and collects orphans.
// The kernel ends everything on the node when it returns or is killed.
func Main(ctx context.Context, configPath string) error {
	config, err := load(configPath)
	if err != nil {
		return err
	}
	if os.Getpid() != 1 {
		return errors.New("a node's holder is started by the lab, in namespaces of its own")
	}
	if err := prepare(config); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	children := NewChildren(ctx)
	defer children.Wait()
	defer cancel()
	return hold(ctx, config, children)
}

// prepare makes the namespaces the node's own.
func prepare(config *Config) error {
	// /proc still shows the machine's processes: what this one is called there is how the
	// lab finds it.
	pid, err := os.Readlink("/proc/self")
	if err != nil {
		return err
	}
	if err := os.WriteFile(config.path(pidFile), []byte(pid), 0o600); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(config.Name)); err != nil {
		return fmt.Errorf("set host Name: %w", err)
	}
	return mountAll(config)
}

func hold(ctx context.Context, config *Config, children *Children) error {
	containerd := children.supervise(ctx, Program{
		Name: "containerd", Path: "containerd", Args: []string{"--config", config.path("containerd.toml")}, Log: Log(config.Dir, "containerd"),
	})
	defer containerd()
	if err := awaitContainerd(ctx, config); err != nil {
		return err
	}
	for _, dir := range config.Images {
		if err := importImage(ctx, config, children, dir); err != nil {
			return err
		}
	}
	kubelet := children.supervise(ctx, Program{
		Name: "kubelet", Path: filepath.Join(config.Binaries, "kubelet"), Args: config.kubeletArguments(), Log: Log(config.Dir, "kubelet"),
	})
	defer kubelet()
	proxy := children.supervise(ctx, Program{
		Name: "kube-proxy", Path: filepath.Join(config.Binaries, "kube-proxy"), Args: []string{"--config=/etc/kubernetes/kube-proxy.yaml"}, Log: Log(config.Dir, "kube-proxy"),
	})
	defer proxy()
	if err := os.WriteFile(config.path(startedFile), nil, 0o600); err != nil {
		return err
	}
	logging.From(ctx).Info("node is up", "node", config.Name)
	<-ctx.Done()
	return nil
}

func awaitContainerd(ctx context.Context, config *Config) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := retry(ctx, func() error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "unix", containerdSocket)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		return fmt.Errorf("wait for containerd: %w: %s", err, logEnd(config.Dir, "containerd"))
	}
	return nil
}

// importImage hands an OCI layout to containerd.
func importImage(ctx context.Context, config *Config, children *Children, dir string) error {
	archive := config.path("tmp", filepath.Base(dir)+".tar")
	file, err := os.Create(filepath.Clean(archive))
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(archive) }()
	if err := errors.Join(image.Archive(ctx, dir, file), file.Close()); err != nil {
		return err
	}
	arguments := []string{"--namespace", "k8s.io", "images", "import"}
	if found, err := look(config.Dir); err == nil && found.snapshotter != "" {
		arguments = append(arguments, "--snapshotter", found.snapshotter)
	}
	status, err := children.Run(ctx, Program{
		Name: "ctr", Path: "ctr", Args: append(arguments, archive), Log: Log(config.Dir, "import"),
	})
	if err != nil {
		return fmt.Errorf("import image %s: %w", dir, err)
	}
	if status != 0 {
		return fmt.Errorf("import image %s: ctr ended with %d: %s", dir, status, logEnd(config.Dir, "import"))
	}
	return nil
}

// mountAll gives the node its own view of the machine's files.
func mountAll(config *Config) error {
	// A copy of the machine's mounts is still in their peer groups: what is mounted here
	// would appear there. The kubelet in turn needs shared mounts, of the node's own.
	for _, flags := range []uintptr{unix.MS_REC | unix.MS_PRIVATE, unix.MS_REC | unix.MS_SHARED} {
		if err := unix.Mount("", "/", "", flags, ""); err != nil {
			return fmt.Errorf("change the propagation of mounts: %w", err)
		}
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for key := range KernelSettings() {
		target := filepath.Join("/proc/sys", key)
		if _, err := os.Stat(target); err != nil {
			continue // the kernel was built without it, and the kubelet does not find it either
		}
		if err := bindMount(config.path("sysctl", strings.ReplaceAll(key, "/", ".")), target); err != nil {
			return err
		}
	}
	for _, bind := range binds() {
		if err := os.MkdirAll(bind.target, 0o750); err != nil {
			return err
		}
		if err := bindMount(config.path(bind.name), bind.target); err != nil {
			return err
		}
	}
	return nil
}

// bindMount mounts source over target, in a peer group of its own: otherwise every
// mount below target would appear below source as well.
func bindMount(source, target string) error {
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", source, target, err)
	}
	for _, flags := range []uintptr{unix.MS_PRIVATE, unix.MS_SHARED} {
		if err := unix.Mount("", target, "", flags, ""); err != nil {
			return fmt.Errorf("change the propagation of %s: %w", target, err)
		}
	}
	return nil
}
