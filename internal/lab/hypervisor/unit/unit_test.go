// SPDX-License-Identifier: Apache-2.0

package unit_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/hypervisor/unit"
)

// newRoot makes a root directory with files; a content that begins with -> is a link.
func newRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, content := range files {
		full := filepath.Join(root, path)
		require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
		if len(content) > 2 && content[:2] == "->" {
			require.NoError(t, os.Symlink(content[2:], full))
			continue
		}
		require.NoError(t, os.WriteFile(full, []byte(content), 0o600))
	}
	return root
}

const kubelet = `# comment
[Unit]
Description=The \
  kubelet
After=a.service
After=b.service c.service
[Service]
Environment="ONE=1" 'TWO=two words' THREE=3
EnvironmentFile=-/etc/missing.env
EnvironmentFile=/etc/kubelet.env
ExecStartPre=-/bin/false
ExecStart=/usr/bin/kubelet --config=/etc/k.yaml $EXTRA ${ONE} "a $TWO b" 100%%
Restart=always
RestartSec=1min 30s
KillMode=process
[Install]
WantedBy=multi-user.target
Alias=node.service
`

func TestLoad(t *testing.T) {
	t.Parallel()
	root := newRoot(t, map[string]string{
		"/lib/systemd/system/kubelet.service":                "[Service]\nExecStart=/wrong\n",
		"/etc/systemd/system/kubelet.service":                kubelet,
		"/etc/systemd/system/kubelet.service.d/20-b.conf":    "[Service]\nRestart=no\n",
		"/lib/systemd/system/kubelet.service.d/20-b.conf":    "[Service]\nRestart=never\n",
		"/lib/systemd/system/kubelet.service.d/10-a.conf":    "[Service]\nExecStart=\nExecStart=/bin/new\n",
		"/lib/systemd/system/kubelet.service.d/ignored.text": "[Service]\nRestart=never\n",
		"/etc/systemd/system/alias.service":                  "->/etc/systemd/system/kubelet.service",
		"/etc/systemd/system/off.service":                    "->/dev/null",
		"/lib/systemd/system/off.service":                    "[Service]\nExecStart=/bin/x\n",
		"/lib/systemd/system/get@.service":                   "[Service]\nExecStart=/bin/get %i %p %n\n",
		"/etc/systemd/system/broken.service":                 "[Service\nExecStart\n",
	})
	for _, name := range []string{"kubelet", "kubelet.service", "alias"} {
		loaded, err := unit.Load(root, name)
		require.NoError(t, err)
		assert.Equal(t, "kubelet.service", loaded.Name)
		assert.Equal(t, "The    kubelet", loaded.Last("Unit", "Description"))
		assert.Equal(t, []string{"a.service", "b.service", "c.service"}, loaded.Words("Unit", "After"))
		assert.Equal(t, []string{"/bin/new"}, loaded.All("Service", "ExecStart"), "an empty assignment takes back the others")
		assert.Equal(t, "no", loaded.Last("Service", "Restart"), "the first directory's drop-in of a name counts")
		assert.Equal(t, []string{"/lib/systemd/system/kubelet.service.d/10-a.conf", "/etc/systemd/system/kubelet.service.d/20-b.conf"}, loaded.DropIns)
	}
	instance, err := unit.Load(root, "get@one-two.service")
	require.NoError(t, err)
	commands, err := instance.Commands("ExecStart", nil)
	require.NoError(t, err)
	assert.Equal(t, []unit.Command{{Path: "/bin/get", Args: []string{"one-two", "get", "get@one-two.service"}}}, commands)
	_, err = unit.Load(root, "off")
	require.ErrorIs(t, err, unit.ErrMasked)
	_, err = unit.Load(root, "none")
	require.ErrorIs(t, err, unit.ErrNotFound)
	_, err = unit.Load(root, "broken")
	require.ErrorContains(t, err, "line 1")
	_, err = unit.Load(root, "../../secret")
	require.ErrorContains(t, err, "slash")
}

func TestCommands(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		line    string
		want    unit.Command
		problem string
	}{
		"plain":                       {line: "/bin/a b c", want: unit.Command{Path: "/bin/a", Args: []string{"b", "c"}}},
		"may fail":                    {line: "-/bin/a", want: unit.Command{Path: "/bin/a", Args: []string{}, MayFail: true}},
		"several prefixes":            {line: "-+!/bin/a", want: unit.Command{Path: "/bin/a", Args: []string{}, MayFail: true, Privileged: true}},
		"another argv[0]":             {line: "@/bin/a name b", want: unit.Command{Path: "/bin/a", Args: []string{"b"}}},
		"quotes":                      {line: `/bin/a "b c" 'd "e"' f\ g`, want: unit.Command{Path: "/bin/a", Args: []string{"b c", `d "e"`, "f g"}}},
		"an empty word":               {line: `/bin/a ""`, want: unit.Command{Path: "/bin/a", Args: []string{""}}},
		"a variable as words":         {line: "/bin/a $MANY b", want: unit.Command{Path: "/bin/a", Args: []string{"x", "y z", "b"}}},
		"an empty variable":           {line: "/bin/a $NONE b", want: unit.Command{Path: "/bin/a", Args: []string{"b"}}},
		"a variable in its place":     {line: "/bin/a --n=${MANY}-", want: unit.Command{Path: "/bin/a", Args: []string{`--n=x "y z"-`}}},
		"dollars":                     {line: "/bin/a $$HOME a$b", want: unit.Command{Path: "/bin/a", Args: []string{"$HOME", "a$b"}}},
		"no variables":                {line: ":/bin/a $MANY", want: unit.Command{Path: "/bin/a", Args: []string{"$MANY"}}},
		"a percent sign and the name": {line: "/bin/a 5%% %n %t", want: unit.Command{Path: "/bin/a", Args: []string{"5%", "x.service", "/run"}}},
		"an open quote":               {line: `/bin/a "b`, problem: "not closed"},
		"nothing":                     {line: "-", problem: "no program"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := newRoot(t, map[string]string{"/etc/systemd/system/x.service": "[Service]\nExecStart=" + tc.line + "\n"})
			loaded, err := unit.Load(root, "x")
			require.NoError(t, err)
			commands, err := loaded.Commands("ExecStart", map[string]string{"MANY": `x "y z"`})
			if tc.problem != "" {
				require.ErrorContains(t, err, tc.problem)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, []unit.Command{tc.want}, commands)
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	root := newRoot(t, map[string]string{
		"/etc/systemd/system/kubelet.service": kubelet,
		"/etc/kubelet.env":                    "# comment\nEXTRA=\"--a=1 --b=2\"\nONE=one\nnot a variable\nLONG=a\\\nb\n; x=y\n",
	})
	loaded, err := unit.Load(root, "kubelet")
	require.NoError(t, err)
	environment, err := loaded.Environment(root)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"ONE": "one", "TWO": "two words", "THREE": "3", "EXTRA": "--a=1 --b=2", "LONG": "ab"}, environment)
	commands, err := loaded.Commands("ExecStart", environment)
	require.NoError(t, err)
	assert.Equal(t, []string{"--config=/etc/k.yaml", "--a=1", "--b=2", "one", "a $TWO b", "100%"}, commands[0].Args)
	require.NoError(t, os.Remove(filepath.Join(root, "/etc/kubelet.env")))
	_, err = loaded.Environment(root)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"": time.Minute, "5": 5 * time.Second, "1min 30s": 90 * time.Second, "500ms": 500 * time.Millisecond, "2hr": 2 * time.Hour,
		"infinity": 0, "0": 0, "3sec": 3 * time.Second, "soon": time.Minute, "-1": time.Minute,
	} {
		assert.Equal(t, want, unit.ParseDuration(text, time.Minute), "%q", text)
	}
}

func TestEnabling(t *testing.T) {
	t.Parallel()
	root := newRoot(t, map[string]string{
		"/lib/systemd/system/kubelet.service": kubelet,
		"/lib/systemd/system/also.service":    "[Service]\nExecStart=/bin/x\n[Install]\nWantedBy=multi-user.target\nAlso=kubelet.service\n",
		"/lib/systemd/system/static.service":  "[Service]\nExecStart=/bin/x\n",
	})
	state := func(name string) string {
		state, err := unit.State(root, name)
		require.NoError(t, err)
		return state
	}
	assert.Equal(t, "disabled", state("kubelet"))
	assert.Equal(t, "static", state("static"))
	done, err := unit.Enable(root, "also")
	require.NoError(t, err)
	assert.Len(t, done, 3)
	again, err := unit.Enable(root, "also")
	require.NoError(t, err)
	assert.Empty(t, again)
	assert.Equal(t, "enabled", state("kubelet"))
	wanted, err := unit.Wanted(root, "multi-user.target")
	require.NoError(t, err)
	assert.Equal(t, []string{"also.service", "kubelet.service"}, wanted)
	byAlias, err := unit.Load(root, "node")
	require.NoError(t, err)
	assert.Equal(t, "kubelet.service", byAlias.Name)

	done, err = unit.Disable(root, "kubelet")
	require.NoError(t, err)
	assert.Len(t, done, 2)
	assert.Equal(t, "disabled", state("kubelet"))
	require.NoError(t, unit.Mask(root, "kubelet"))
	assert.Equal(t, "masked", state("kubelet"))
	_, err = unit.Enable(root, "kubelet")
	require.ErrorIs(t, err, unit.ErrMasked)
	require.NoError(t, unit.Unmask(root, "kubelet"))
	require.NoError(t, unit.Unmask(root, "kubelet"))
	assert.Equal(t, "disabled", state("kubelet"))
	_, err = unit.State(root, "none")
	require.ErrorIs(t, err, unit.ErrNotFound)
}

func FuzzLoad(f *testing.F) {
	f.Add(kubelet)
	f.Add("[a]\nb=c\\\n# x\n  d")
	f.Add("[Service]\nExecStart=-@:\"'\\s ${A}$$ %%\n")
	f.Fuzz(func(t *testing.T, text string) {
		root := newRoot(t, map[string]string{"/etc/systemd/system/x.service": "#" + "\n" + text})
		loaded, err := unit.Load(root, "x")
		if err != nil {
			return
		}
		environment, err := loaded.Environment(root)
		if err != nil {
			return
		}
		commands, err := loaded.Commands("ExecStart", environment)
		if err != nil {
			return
		}
		for _, command := range commands {
			assert.NotNil(t, command.Args)
		}
	})
}
