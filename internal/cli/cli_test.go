// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/cli"
	"github.com/cloudveneto/caas/internal/logging"
)

const playedPart = "CLI_TEST_PART"

// TestMain lets the test binary play a program, since Main exits.
func TestMain(m *testing.M) {
	if part := os.Getenv(playedPart); part != "" {
		cli.Main(program(part))
	}
	os.Exit(m.Run())
}

func program(part string) *cobra.Command {
	return &cobra.Command{Use: "program", RunE: func(cmd *cobra.Command, _ []string) error {
		switch part {
		case "fails":
			return errors.New("the plugin is away")
		case "exits 7":
			return &cli.ExitError{Code: 7, Err: errors.New("special")}
		case "exits 8 silently":
			return &cli.ExitError{Code: 8}
		case "waits":
			cmd.Println("ready")
			<-cmd.Context().Done()
		case "hangs":
			cmd.Println("ready")
			select {}
		}
		return nil
	}}
}

func play(t *testing.T, part string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), playedPart+"="+part)
	return command
}

func TestMainExitsAsTheCommandSays(t *testing.T) {
	t.Parallel()
	for part, test := range map[string]struct {
		code   int
		stderr string
	}{
		"works":            {0, ""},
		"fails":            {1, "program: the plugin is away\n"},
		"exits 7":          {7, "program: special\n"},
		"exits 8 silently": {8, ""},
	} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			command := play(t, part)
			var stderr bytes.Buffer
			command.Stderr = &stderr
			_ = command.Run()
			assert.Equal(t, test.code, command.ProcessState.ExitCode())
			assert.Equal(t, test.stderr, stderr.String())
		})
	}
}

func TestSignals(t *testing.T) {
	t.Parallel()
	for part, test := range map[string]struct {
		signals int
		code    int
	}{
		"waits": {1, 0},
		"hangs": {2, -1}, // killed by the second one
	} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			command := play(t, part)
			out, err := command.StderrPipe()
			require.NoError(t, err)
			require.NoError(t, command.Start())
			ready := make([]byte, len("ready\n"))
			_, err = out.Read(ready)
			require.NoError(t, err)
			ended := make(chan struct{})
			go func() {
				_ = command.Wait()
				close(ended)
			}()
			for range test.signals {
				require.NoError(t, command.Process.Signal(syscall.SIGTERM))
				select {
				case <-ended:
				case <-time.NewTimer(300 * time.Millisecond).C:
				}
			}
			select {
			case <-ended:
			case <-time.NewTimer(10 * time.Second).C:
				_ = command.Process.Kill()
				require.Fail(t, "the program did not end")
			}
			assert.Equal(t, test.code, command.ProcessState.ExitCode())
		})
	}
}

func TestLogFlags(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		args []string
		want string
		err  string
	}{
		"defaults":   {nil, "level=INFO msg=hello", ""},
		"json":       {[]string{"--log-format", "json"}, `"msg":"hello"`, ""},
		"quiet":      {[]string{"--log-level", "error"}, "", ""},
		"bad level":  {[]string{"--log-level", "loud"}, "", `log level "loud"`},
		"bad format": {[]string{"--log-format", "xml"}, "", `log format "xml"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			command := &cobra.Command{Use: "x", SilenceErrors: true, SilenceUsage: true, RunE: func(cmd *cobra.Command, _ []string) error {
				logging.From(cmd.Context()).Info("hello")
				return nil
			}}
			cli.LogFlags(command)
			command.SetErr(&out)
			command.SetArgs(test.args)
			err := command.ExecuteContext(t.Context())
			if test.err != "" {
				require.ErrorContains(t, err, test.err)
				return
			}
			require.NoError(t, err)
			assert.Contains(t, out.String(), test.want)
			assert.Equal(t, test.want == "", out.Len() == 0)
		})
	}
}

func TestVersionAndExitError(t *testing.T) {
	t.Parallel()
	assert.NotEmpty(t, strings.TrimSpace(cli.Version()))
	cause := errors.New("cause")
	err := &cli.ExitError{Code: 3, Err: cause}
	require.ErrorIs(t, err, cause)
	assert.Equal(t, "cause", err.Error())
	assert.Equal(t, "exit code 3", (&cli.ExitError{Code: 3}).Error())
}

func TestFromEnvironment(t *testing.T) {
	t.Parallel()
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	listen := flags.String("ops-listen", "default", "")
	given := flags.String("given", "", "")
	require.NoError(t, flags.Parse([]string{"--given=here"}))
	flags.Int("workers", 1, "")
	environment := map[string]string{"X_OPS_LISTEN": "there", "X_GIVEN": "elsewhere", "X_WORKERS": "many"}
	err := cli.FromEnvironment(flags, "X_", func(name string) (string, bool) {
		value, set := environment[name]
		return value, set
	})
	require.ErrorContains(t, err, "X_WORKERS")
	assert.Equal(t, "there", *listen)
	assert.Equal(t, "here", *given, "the command line wins")
}
