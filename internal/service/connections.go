// SPDX-License-Identifier: Apache-2.0

package service

import (
	"errors"
	"fmt"
	"os"
)

// giveUpSoon has clients of Kubernetes' libraries that are made from now on give up a connection from which nothing has come
// for 10 seconds and on which a ping is not answered in 5. All requests and watches share one connection; if its far end is
// gone without a word, by the libraries' own 30 and 15 seconds a node's lease of 40 has run out before. What the
// environment says already, holds: the libraries can be told by nothing else.
func giveUpSoon() error {
	var problems []error
	for name, seconds := range map[string]string{"HTTP2_READ_IDLE_TIMEOUT_SECONDS": "10", "HTTP2_PING_TIMEOUT_SECONDS": "5"} {
		if _, set := os.LookupEnv(name); !set {
			problems = append(problems, os.Setenv(name, seconds))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("health of connections: %w", err)
	}
	return nil
}
