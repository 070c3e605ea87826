// SPDX-License-Identifier: Apache-2.0

package login

import (
	"errors"
	"fmt"

	"github.com/cloudveneto/caas/multitenancy/login/identity"
)

// Exit codes.
const (
	CodeUsage       = 2
	CodeCredentials = 3
	CodeProject     = 4
	CodeConflict    = 5
	CodeNetwork     = 6
	CodeKubeconfig  = 7
)

// ExitError ends the program with a code.
type ExitError struct {
	Code int
	Err  error
}

func (f *ExitError) Error() string { return f.Err.Error() }

func (f *ExitError) Unwrap() error { return f.Err }

func fail(code int, format string, args ...any) error {
	return &ExitError{Code: code, Err: fmt.Errorf(format, args...)}
}

// classified gives Keystone's errors their codes.
func classified(err error) error {
	if err == nil {
		return nil
	}
	if _, done := errors.AsType[*ExitError](err); done {
		return err
	}
	trouble, ok := errors.AsType[*identity.Error](err)
	if !ok {
		return err
	}
	code := CodeNetwork
	switch trouble.Kind {
	case identity.Unauthorized, identity.NeedsPasscode:
		code = CodeCredentials
	case identity.Forbidden, identity.NotFound, identity.Conflict:
		code = CodeProject
	case identity.Usage:
		code = CodeUsage
	case identity.Unavailable, identity.Network:
	}
	return &ExitError{Code: code, Err: err}
}

// codeOf is the exit code that an error asks for; 1 if it asks for none.
func codeOf(err error) int {
	if failure, ok := errors.AsType[*ExitError](err); ok {
		return failure.Code
	}
	return 1
}
