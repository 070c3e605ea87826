// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/cloudveneto/caas/multitenancy/login/identity"
)

// longestPassword bounds what is read from standard input.
const longestPassword = 4096

// warn says what others can see.
func (a *App) warn(o *options, address string) {
	if o.has("password") && o.password != "-" && a.Terminal.Interactive() {
		a.note("warning: others on this machine can see the password of -password in the list of processes; leave it out to be asked for it, or use -password-stdin")
	}
	if strings.HasPrefix(address, "http://") {
		a.note("warning: %s has no TLS: others in the network can read the password", address)
	}
}

// credential completes what was found: from standard input, or by asking.
func (a *App) credential(ctx context.Context, who identity.Credential, o *options) (identity.Credential, error) {
	if o.passwordStdin || o.password == "-" {
		secret, err := a.standardInput(o)
		if err != nil {
			return who, err
		}
		who.Password = secret
		who.ApplicationCredentialID, who.ApplicationCredentialName, who.Token = "", "", ""
	}
	if who.Complete() {
		return who, nil
	}
	if who.IsApplicationCredential() {
		return who, fail(CodeUsage, "the application credential has no secret; set OS_APPLICATION_CREDENTIAL_SECRET")
	}
	if !a.Terminal.Interactive() {
		return who, missing(who)
	}
	if err := a.ask(ctx, &who); err != nil {
		return who, err
	}
	if !who.Complete() {
		return who, missing(who)
	}
	return who, nil
}

// ask has somebody type what is missing.
func (a *App) ask(ctx context.Context, who *identity.Credential) error {
	if who.UserID == "" && who.UserName == "" {
		name, err := a.Terminal.Line(ctx, "User name: ", false)
		if err != nil {
			return err
		}
		who.UserName = strings.TrimSpace(name)
	}
	if who.Password == "" && who.Passcode == "" {
		secret, err := a.Terminal.Line(ctx, "Password of "+first(who.UserName, who.UserID)+": ", true)
		if err != nil {
			return err
		}
		who.Password = identity.Secret(secret)
	}
	return nil
}

func missing(who identity.Credential) error {
	if who.UserID == "" && who.UserName == "" {
		return fail(CodeUsage, "there is no user name; give it with -user or OS_USERNAME, or name a cloud of clouds.yaml with OS_CLOUD")
	}
	return fail(CodeUsage, "there is no password; give it with -password-stdin or OS_PASSWORD, or run the program on a terminal")
}

func first(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}

func (a *App) standardInput(o *options) (identity.Secret, error) {
	if o.passwordStdin && o.password != "" && o.password != "-" {
		return "", fail(CodeUsage, "-password and -password-stdin exclude each other")
	}
	text, err := io.ReadAll(io.LimitReader(a.In, longestPassword+1))
	if err != nil {
		return "", fail(CodeUsage, "read the password from standard input: %w", err)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	switch {
	case secret == "":
		return "", fail(CodeUsage, "there is no password on standard input")
	case len(text) > longestPassword, strings.ContainsAny(secret, "\r\n"):
		return "", fail(CodeUsage, "what is on standard input is no password: it has to be one line")
	}
	return identity.Secret(secret), nil
}

// errNobody is that there is nobody to ask.
var errNobody = errors.New("there is no terminal")

// agreed asks for consent. Nobody to ask is errNobody.
func (a *App) agreed(ctx context.Context, question string) (bool, error) {
	if !a.Terminal.Interactive() {
		return false, errNobody
	}
	answer, err := a.Terminal.Line(ctx, question+" [y/N] ", false)
	if err != nil {
		return false, err
	}
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes", nil
}
