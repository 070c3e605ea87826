// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cloudveneto/caas/internal/logging"
)

// device is a special file.
type device struct {
	path         string
	major, minor uint32
	mode         uint32
}

func (d device) make(config *Config) error {
	path := config.root(d.path)
	if err := os.MkdirAll(filepath.Dir(path), mode); err != nil {
		return err
	}
	if err := unix.Mknod(path, d.mode, int(unix.Mkdev(d.major, d.minor))); err != nil { //nolint:gosec // device numbers are small
		return fmt.Errorf("make %s: %w", d.path, err)
	}
	if err := os.Chmod(path, os.FileMode(d.mode&0o777)); err != nil { // whatever the umask
		return err
	}
	return nil
}

func makeDevices(config *Config) error {
	const public, private = unix.S_IFCHR | 0o666, unix.S_IFCHR | 0o600
	for _, d := range []device{
		{"/dev/null", 1, 3, public},
		{"/dev/zero", 1, 5, public},
		{"/dev/full", 1, 7, public},
		{"/dev/random", 1, 8, public},
		{"/dev/urandom", 1, 9, public},
		{"/dev/kmsg", 1, 11, private},
		{"/dev/tty", 5, 0, public},
		{"/dev/fuse", 10, 229, public},
		{"/dev/net/tun", 10, 200, public},
	} {
		if err := d.make(config); err != nil {
			return err
		}
	}
	for link, target := range map[string]string{
		"/dev/ptmx": "pts/ptmx", "/dev/fd": "/proc/self/fd", "/dev/stdin": "/proc/self/fd/0", "/dev/stdout": "/proc/self/fd/1", "/dev/stderr": "/proc/self/fd/2",
	} {
		if err := os.Symlink(target, config.root(link)); err != nil {
			return err
		}
	}
	// A FIFO, not a terminal: whoever opens it must not get it as its controlling terminal,
	// as nobody does who opens the console of a real machine.
	if err := unix.Mkfifo(config.root(consolePath), 0o600); err != nil {
		return fmt.Errorf("make %s: %w", consolePath, err)
	}
	return nil
}

const (
	// diskName is what a second disk of a server is called.
	diskName     = "/dev/vdb"
	loopMajor    = 7
	loopAttempts = 20
)

// attachDisk gives the machine its second disk, whose file it makes at the first boot. It
// is a loop device, which the kernel detaches when the machine has ended.
func attachDisk(ctx context.Context, config *Config) error {
	if config.EphemeralGiB == 0 {
		return nil
	}
	file, err := makeDisk(ctx, config)
	if err != nil {
		return fmt.Errorf("make the second disk: %w", err)
	}
	defer func() { _ = file.Close() }()
	loop, number, err := attachLoop(ctx, file)
	if err != nil {
		return fmt.Errorf("attach the second disk: %w", err)
	}
	defer func() { _ = loop.Close() }()
	disk := device{path: diskName, major: loopMajor, minor: number, mode: unix.S_IFBLK | 0o660}
	if err := disk.make(config); err != nil {
		return err
	}
	// Never closed: the device goes when nobody has it open any more.
	if _, err := unix.FcntlInt(loop.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return fmt.Errorf("hold the second disk: %w", err)
	}
	logging.From(ctx).Info("second disk attached", "device", diskName, "gibibytes", config.EphemeralGiB)
	return nil
}

// makeDisk opens the second disk's file. A new one has a file system with the label that
// Nova gives it.
func makeDisk(ctx context.Context, config *Config) (*os.File, error) {
	path := config.path("ephemeral.img")
	file, err := os.OpenFile(filepath.Clean(path), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil || info.Size() > 0 {
		return file, err
	}
	if err := file.Truncate(int64(config.EphemeralGiB) << 30); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	output, err := exec.CommandContext(ctx, "mkfs.ext4", "-q", "-L", "ephemeral0", "-E", "lazy_itable_init=1,lazy_journal_init=1", path).CombinedOutput() //nolint:gosec // the path is the lab's
	if err != nil {
		return nil, errors.Join(fmt.Errorf("mkfs.ext4: %w: %s", err, output), file.Close(), os.Remove(path))
	}
	return file, nil
}

// attachLoop finds a free loop device. Another machine may take it in between.
func attachLoop(ctx context.Context, file *os.File) (*os.File, uint32, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = control.Close() }()
	for range loopAttempts {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, 0, fmt.Errorf("find a loop device: %w", err)
		}
		loop, err := openLoop(ctx, uint32(number)) //nolint:gosec // the kernel's numbers are small
		if err != nil {
			return nil, 0, err
		}
		config := &unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}} //nolint:gosec // a file descriptor
		err = unix.IoctlLoopConfigure(int(loop.Fd()), config)
		if err == nil {
			return loop, uint32(number), nil //nolint:gosec // as above
		}
		_ = loop.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, 0, fmt.Errorf("configure loop device %d: %w", number, err)
		}
	}
	return nil, 0, errors.New("loop devices are taken by others")
}

// openLoop opens a loop device, whose file may appear a moment after it was asked for, or,
// in a container, not at all.
func openLoop(ctx context.Context, number uint32) (*os.File, error) {
	path := fmt.Sprintf("/dev/loop%d", number)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for range loopAttempts {
		loop, err := os.OpenFile(filepath.Clean(path), os.O_RDWR, 0)
		if err == nil || !errors.Is(err, os.ErrNotExist) {
			return loop, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-ticker.C:
		}
	}
	return nil, fmt.Errorf("no file %s", path)
}
