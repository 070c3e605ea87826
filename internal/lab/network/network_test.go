// SPDX-License-Identifier: Apache-2.0

package network_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cloudveneto/caas/internal/lab/network"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: network namespaces need root")
	}
}

// uniqueName is a namespace name that is removed when the test ends.
func uniqueName(t *testing.T, suffix string) string {
	t.Helper()
	name := fmt.Sprintf("caas-test-%d-%s", os.Getpid(), suffix)
	t.Cleanup(func() {
		require.NoError(t, network.Delete(context.WithoutCancel(t.Context()), name))
	})
	return name
}

func TestDeviceNameFitsTheKernel(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a-very-long-name-", 10)
	assert.Len(t, network.DeviceName("v", long), unix.IFNAMSIZ-1)
	assert.NotEqual(t, network.DeviceName("v", long, "1"), network.DeviceName("v", long, "2"))
	assert.NotEqual(t, network.DeviceName("v", "ab", "c"), network.DeviceName("v", "a", "bc"))
	assert.Equal(t, network.DeviceName("v", "a"), network.DeviceName("v", "a"))
}

func TestAddressesMustBeLiteral(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"localhost:80", "10.0.0.1", "", ":80"} {
		_, err := network.Dial(t.Context(), "/nowhere", "tcp", address)
		require.ErrorContains(t, err, "IP address", address)
		_, err = network.Listen(t.Context(), "/nowhere", "tcp", address)
		require.ErrorContains(t, err, "IP address", address)
	}
}

func TestCreateNeedsAName(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, network.Create(t.Context(), network.Config{}), "name")
}

func TestDoReportsAMissingNamespace(t *testing.T) {
	t.Parallel()
	called := false
	err := network.Do(t.Context(), "/nowhere", func() error { called = true; return nil })
	require.ErrorIs(t, err, os.ErrNotExist)
	assert.False(t, called)
}

// TestTwoNodesOnALAN plugs two namespaces into a LAN and talks between them, from the
// LAN, and to an address that one of them stands for.
func TestTwoNodesOnALAN(t *testing.T) {
	needRoot(t)
	t.Parallel()
	ctx := t.Context()
	lan, first, second := uniqueName(t, "lan"), uniqueName(t, "n1"), uniqueName(t, "n2")
	config := network.Config{Name: lan, Extra: []netip.Prefix{netip.MustParsePrefix("10.88.0.53/32")}}
	for range 2 { // a second time nothing is left to do
		require.NoError(t, network.Create(ctx, config))
		for index, name := range []string{first, second} {
			require.NoError(t, network.CreateNamespace(ctx, name))
			require.NoError(t, network.Attach(ctx, network.Port{
				LAN: lan, Namespace: name,
				Address: netip.MustParsePrefix(fmt.Sprintf("10.88.0.%d/24", 11+index)),
				Gateway: netip.MustParseAddr("10.88.0.1"),
			}))
		}
		require.NoError(t, network.AddRoute(ctx, lan, netip.MustParsePrefix("10.201.2.0/24"), netip.MustParseAddr("10.88.0.12")))
	}
	exists, err := network.Exists(lan)
	require.NoError(t, err)
	require.True(t, exists)

	greet(t, second, "10.88.0.12:7000", "from the second node")
	greet(t, lan, "10.88.0.53:7000", "from the LAN")
	assert.Equal(t, "from the second node", hear(t, first, "10.88.0.12:7000"))
	assert.Equal(t, "from the second node", hear(t, lan, "10.88.0.12:7000"))
	assert.Equal(t, "from the LAN", hear(t, second, "10.88.0.53:7000"))

	// A packet for a pod goes to its node, which says that nothing is there.
	for range 2 {
		require.NoError(t, network.Refuse(ctx, second, netip.MustParsePrefix("10.201.2.0/24")))
	}
	_, err = network.Dial(ctx, network.Path(first), "tcp", "10.201.2.5:7000")
	require.ErrorIs(t, err, unix.EHOSTUNREACH)
	require.NoError(t, network.RemoveRoute(ctx, lan, netip.MustParsePrefix("10.201.2.0/24")))
	require.NoError(t, network.RemoveRoute(ctx, lan, netip.MustParsePrefix("10.201.2.0/24")))
	_, err = network.Dial(ctx, network.Path(lan), "tcp", "10.201.2.5:7000")
	require.ErrorIs(t, err, unix.ENETUNREACH)

	for range 2 {
		require.NoError(t, network.Delete(ctx, first))
	}
	exists, err = network.Exists(first)
	require.NoError(t, err)
	assert.False(t, exists)
}

// greet says text to everyone who connects to address in the namespace.
func greet(t *testing.T, namespace, address, text string) {
	t.Helper()
	listener, err := network.Listen(t.Context(), network.Path(namespace), "tcp", address)
	require.NoError(t, err)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(conn, text)
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
}

func hear(t *testing.T, namespace, address string) string {
	t.Helper()
	conn, err := network.Dial(t.Context(), network.Path(namespace), "tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(5*time.Second)))
	text, err := io.ReadAll(conn)
	require.NoError(t, err)
	return string(text)
}

// TestThreadsStayOutside dials from many goroutines at once and then looks at every
// thread of the process.
func TestThreadsStayOutside(t *testing.T) {
	needRoot(t)
	name := uniqueName(t, "threads")
	require.NoError(t, network.Create(t.Context(), network.Config{Name: name}))
	greet(t, name, "10.88.0.1:7000", "hello")
	var dialing sync.WaitGroup
	for range 50 {
		dialing.Go(func() { assert.Equal(t, "hello", hear(t, name, "10.88.0.1:7000")) })
	}
	dialing.Wait()
	own, err := os.Readlink("/proc/self/ns/net")
	require.NoError(t, err)
	assert.Eventually(t, func() bool {
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return false
		}
		for _, thread := range threads {
			found, err := os.Readlink("/proc/self/task/" + thread.Name() + "/ns/net")
			if err == nil && found != own {
				return false
			}
		}
		return true
	}, 5*time.Second, 10*time.Millisecond, "no thread is left in the namespace")
}

func TestDialEndsWithItsContext(t *testing.T) {
	needRoot(t)
	t.Parallel()
	name := uniqueName(t, "dial")
	require.NoError(t, network.Create(t.Context(), network.Config{Name: name}))
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := network.Dial(ctx, network.Path(name), "tcp", "10.88.0.200:1") // nobody has it
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	assert.True(t, timeout.Timeout())
}

// TestNothingIsLeft makes and deletes a LAN and compares the machine's mounts and
// interfaces before and after. Where other programs have network namespaces, only what
// carries the LAN's name can be compared.
func TestNothingIsLeft(t *testing.T) {
	needRoot(t)
	name := uniqueName(t, "left")
	before := machine(t)
	require.NoError(t, network.Create(t.Context(), network.Config{Name: name}))
	assert.Contains(t, machine(t), network.Path(name))
	require.NoError(t, network.Delete(t.Context(), name))
	after := machine(t)
	assert.NotContains(t, after, network.Path(name))
	if entries, err := os.ReadDir("/run/netns"); errors.Is(err, os.ErrNotExist) || len(entries) == 0 {
		assert.Equal(t, before, after)
	}
}

func machine(t *testing.T) []string {
	t.Helper()
	file, err := os.Open("/proc/self/mountinfo")
	require.NoError(t, err)
	defer file.Close()
	var lines []string
	for scanner := bufio.NewScanner(file); scanner.Scan(); {
		lines = append(lines, strings.Fields(scanner.Text())[4])
	}
	links, err := net.Interfaces()
	require.NoError(t, err)
	for _, link := range links {
		lines = append(lines, link.Name)
	}
	return lines
}
