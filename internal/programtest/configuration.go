// SPDX-License-Identifier: Apache-2.0

package programtest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Configuration is one that a program is to judge by --check.
type Configuration struct {
	// File is what the configuration file says; without it, --config is not given.
	File string
	// Args and Env are given besides. The last argument of a name holds.
	Args, Env []string
	// Want are parts of what the program says, and Fails that it is not content.
	Want  []string
	Fails bool
}

// Check has the program judge configurations, all at the same time.
func (b *Binary) Check(t *testing.T, configurations map[string]Configuration) {
	t.Helper()
	for name, test := range configurations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := []string{"--check"}
			if test.File != "" {
				path := filepath.Join(t.TempDir(), "config.yaml")
				require.NoError(t, os.WriteFile(path, []byte(test.File), 0o600))
				args = append(args, "--config", path)
			}
			command := b.Command(t, append(args, test.Args...)...)
			command.Env = append(os.Environ(), test.Env...)
			out, err := command.CombinedOutput()
			assert.Equal(t, test.Fails, err != nil, string(out))
			for _, want := range test.Want {
				assert.Contains(t, string(out), want)
			}
		})
	}
}
