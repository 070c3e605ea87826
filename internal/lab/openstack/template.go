// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

const (
	// templateHost is the services' host in a template's catalog.
	templateHost = "site.invalid"
	// lockInterval is how often a lock that somebody else has is tried.
	lockInterval = 20 * time.Millisecond
	// templateTimeout bounds the making of a template; it takes some ten seconds.
	templateTimeout = 10 * time.Minute
)

// databases are the names of the site's databases.
func (c Config) databases() []string {
	if c.Driver == Identity {
		return []string{keystone}
	}
	return []string{"keystone", "placement", "glance", "neutron", "nova_api", "nova_cell0", "nova_cell1"}
}

// databaseTemplate returns a directory with all databases as they are before a site's first start. It is made once for these
// versions of OpenStack and of the files here.
func (c Config) databaseTemplate(ctx context.Context) (string, error) {
	key, err := c.templateKey(ctx)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(c.Cache, "openstack", key)
	if exists(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o750); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, templateTimeout)
	defer cancel()
	c.Progress("waiting for another maker of databases")
	unlock, err := lock(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if exists(dir) {
		return dir, nil
	}
	c.Progress("making databases")
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".new-*")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	if err := c.makeDatabases(ctx, tmp); err != nil {
		return "", err
	}
	return dir, os.Rename(filepath.Join(tmp, "db"), dir)
}

// templateKey changes with whatever decides what the databases are.
func (c Config) templateKey(ctx context.Context) (string, error) {
	packages := []string{"python3-keystone", "python3-sqlalchemy"}
	if c.Driver != Identity {
		packages = append(packages, "python3-placement", "python3-glance", "python3-neutron", "python3-nova")
	}
	versions, err := exec.CommandContext(ctx, "dpkg-query", append([]string{"-W", "-f", "${Package} ${Version}\n"}, packages...)...).Output() //nolint:gosec // the arguments are above
	if err != nil {
		return "", fmt.Errorf("find versions of OpenStack's packages: %w", err)
	}
	sum := sha256.New()
	_, _ = fmt.Fprintf(sum, "%s\n%s\n%q\n", versions, c.Region, c.databases())
	err = fs.WalkDir(embedded, "files", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := embedded.ReadFile(path)
		_, _ = fmt.Fprintf(sum, "%s %d\n%s", path, len(data), data)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil))[:16], err
}

// makeDatabases makes all databases in dir/db.
func (c Config) makeDatabases(ctx context.Context, dir string) error {
	l := layout{
		Dir: dir, Region: c.Region, ServicePassword: password(), Address: templateHost,
		KeystoneURL:     fmt.Sprintf("http://%s:%d/v3", templateHost, keystonePort),
		KeystoneSockets: []string{"http-socket = " + filepath.Join(dir, "run", "keystone.sock")},
	}
	if err := l.write(); err != nil {
		return err
	}
	bootstrap := []string{"bootstrap", "--bootstrap-region-id", l.Region}
	for _, name := range []string{"admin", "internal", "public"} {
		bootstrap = append(bootstrap, "--bootstrap-"+name+"-url", l.KeystoneURL)
	}
	admin := password()
	chains := [][]tool{
		{
			l.manage("keystone-manage", "keystone", "db_sync"),
			l.manage("keystone-manage", "keystone", bootstrap...).with("OS_BOOTSTRAP_PASSWORD=" + admin),
		},
	}
	if c.Driver != Identity {
		chains = append(chains, l.cloudDatabases()...)
	}
	return c.runChains(ctx, l, chains, admin)
}

// cloudDatabases make the databases of all services but Keystone.
func (l layout) cloudDatabases() [][]tool {
	sqlite := func(name string) string { return "sqlite:///" + l.path("db", name+".db") }
	return [][]tool{
		{l.manage("placement-manage", "placement", "db", "sync"), l.manage("glance-manage", "glance", "db_sync")},
		{
			l.manage("nova-manage", "nova", "api_db", "sync"),
			l.manage("nova-manage", "nova", "cell_v2", "map_cell0", "--database_connection", sqlite("nova_cell0")),
			l.manage("nova-manage", "nova", "cell_v2", "create_cell", "--name", "cell1", "--verbose"),
			l.manage("nova-manage", "nova", "db", "sync"),
		},
		{
			{path: python, args: []string{l.path("neutron_schema.py"), sqlite("neutron")}, env: l.environment()},
			l.manage("neutron-db-manage", "neutron", "stamp", "heads"),
		},
	}
}

// runChains runs the tools of each chain in turn, all chains at once, and then fills Keystone's database.
func (c Config) runChains(ctx context.Context, l layout, chains [][]tool, admin string) error {
	group, toolCtx := errgroup.WithContext(ctx)
	for _, chain := range chains {
		group.Go(func() error {
			for _, one := range chain {
				if err := one.run(toolCtx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	paths := make([]string, 0, len(c.databases()))
	for _, name := range c.databases() {
		paths = append(paths, l.path("db", name+".db"))
	}
	checkpoint := tool{path: python, args: append([]string{l.path("checkpoint.py")}, paths...), env: l.environment()}
	if err := checkpoint.run(ctx); err != nil { // before Keystone: without a write-ahead log its threads lock each other out
		return err
	}
	if err := c.makeCatalog(ctx, l, admin); err != nil {
		return err
	}
	return checkpoint.run(ctx)
}

// tool is a program that runs to its end.
type tool struct {
	path      string
	args, env []string
	input     []byte
}

// manage is one of OpenStack's own tools with the site's configuration, and none of the machine's.
func (l layout) manage(program, service string, args ...string) tool {
	return tool{
		path: program, env: l.environment(),
		args: append([]string{"--config-file", l.path("etc", service+".conf"), "--config-dir", l.path("etc", "empty")}, args...),
	}
}

func (t tool) with(env ...string) tool {
	t.env = append(t.env, env...)
	return t
}

// run runs the tool; its error has the end of what the tool said.
func (t tool) run(ctx context.Context) error {
	const length = 2000
	cmd := exec.CommandContext(ctx, t.path, t.args...) //nolint:gosec // OpenStack's programs, and this package's
	cmd.Env = append(os.Environ(), t.env...)
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(t.input)
	output, err := cmd.CombinedOutput()
	if err != nil {
		text := strings.TrimSpace(string(output[max(0, len(output)-length):]))
		return fmt.Errorf("%s: %w: %s", strings.Join(append([]string{filepath.Base(t.path)}, t.args...), " "), err, text)
	}
	return nil
}

// lock takes a lock file for this process. The kernel frees the lock of a process that ends; the file stays.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(lockInterval)
	defer ticker.Stop()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), file.Close())
		case <-ticker.C:
		}
	}
}
