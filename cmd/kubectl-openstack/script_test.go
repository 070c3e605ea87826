// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cloudveneto/caas/multitenancy/login/identitytest"
)

const (
	password  = "correct-horse-battery"
	trusteeID = "osnode-controller-id"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"kubectl-openstack": main})
}

// TestScripts runs the program as users do, against a Keystone that is a real HTTP server.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			server, ok := env.T().(testing.TB)
			if !ok {
				return fmt.Errorf("%T is no test", env.T())
			}
			return furnish(server, env)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"keystone": keystone, "secretless": secretless, "mode": mode,
		},
	})
}

type serverKey struct{}

func furnish(tb testing.TB, env *testscript.Env) error {
	tb.Helper()
	server := identitytest.StartTLS(tb)
	server.AddProject(identitytest.Project{ID: "55158de200964f7c8aa5ca486e6cb7ea", Name: "CMS", Namespace: "cms"})
	server.AddProject(identitytest.Project{ID: "66258de200964f7c8aa5ca486e6cb7eb", Name: "QST", Namespace: "qst"})
	server.AddProject(identitytest.Project{ID: "77358de200964f7c8aa5ca486e6cb7ec", Name: "ATLAS", Namespace: "atlas"})
	server.AddUser(identitytest.User{
		ID: "2ddd446e119b417791492e950553a055", Name: "zangrand@infn.it", Password: password,
		Roles: map[string][]string{"CMS": {"member", "reader"}, "QST": {"member"}},
	})
	server.AddUser(identitytest.User{ID: "nobody", Name: "nobody@infn.it", Password: password})
	server.AddUser(identitytest.User{ID: "reader", Name: "reader@infn.it", Password: password, Roles: map[string][]string{"CMS": {"reader"}}})
	server.AddUser(identitytest.User{ID: "careful", Name: "careful@infn.it", Password: password, Passcode: "123456", Roles: map[string][]string{"QST": {"member"}}})
	env.Values[serverKey{}] = server
	home := filepath.Join(env.WorkDir, "home")
	config := filepath.Join(home, ".config", "kubectl-openstack")
	if err := os.MkdirAll(config, 0o755); err != nil {
		return err
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	settings := fmt.Sprintf("server: %s\nauthURL: %s\ncaFile: ca.crt\ntrustee: {id: %s, name: osnode-controller}\n", server.URL, server.AuthURL(), trusteeID)
	if err := os.WriteFile(filepath.Join(config, "ca.crt"), ca, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(config, "config.yaml"), []byte(settings), 0o600); err != nil {
		return err
	}
	env.Setenv("HOME", home)
	env.Setenv("AUTH_URL", server.AuthURL())
	env.Setenv("SERVER", server.URL)
	env.Setenv("PASSWORD", password)
	env.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	env.Setenv("XDG_RUNTIME_DIR", "")
	return nil
}

func serverOf(ts *testscript.TestScript) *identitytest.Server {
	server, ok := ts.Value(serverKey{}).(*identitytest.Server)
	if !ok {
		ts.Fatalf("there is no Keystone")
	}
	return server
}

// keystone changes the stand-in, or looks at it.
//
//	keystone has tokens|credentials|trusts N
//	keystone asked N PATH
//	keystone life|skew DURATION
//	keystone revoke | silence | fail STATUS
//	keystone trust ID AGE-LEFT
func keystone(ts *testscript.TestScript, _ bool, args []string) {
	server := serverOf(ts)
	duration := func(text string) time.Duration {
		value, err := time.ParseDuration(text)
		ts.Check(err)
		return value
	}
	number := func(text string) int {
		value, err := strconv.Atoi(text)
		ts.Check(err)
		return value
	}
	switch args[0] {
	case "has":
		count := map[string]int{"tokens": len(server.Valid()), "credentials": len(server.Credentials()), "trusts": len(server.Trusts())}
		if got := count[args[1]]; got != number(args[2]) {
			ts.Fatalf("keystone has %d %s, not %s:\n%+v\n%+v", got, args[1], args[2], server.Credentials(), server.Trusts())
		}
	case "asked":
		got := 0
		for _, one := range server.Requests() {
			if one == strings.Join(args[2:], " ") {
				got++
			}
		}
		if got != number(args[1]) {
			ts.Fatalf("keystone was asked %d times, not %s: %s", got, args[1], strings.Join(server.Requests(), ", "))
		}
	case "life":
		server.Tokens(duration(args[1]))
	case "skew":
		server.Skew(duration(args[1]))
	case "revoke":
		server.RevokeAll()
	case "silence":
		server.Silence()
	case "fail":
		server.Fail(identitytest.Status(number(args[1])), identitytest.Status(number(args[1])))
	case "trust":
		server.SetTrust(identitytest.Trust{
			ID: args[1], TrustorID: "2ddd446e119b417791492e950553a055", TrusteeID: trusteeID, ProjectID: "55158de200964f7c8aa5ca486e6cb7ea",
			Roles: []string{"member"}, Impersonation: true, Expires: time.Now().Add(duration(args[2])),
		})
	case "check-trusts":
		for _, one := range server.Trusts() {
			left := time.Until(one.Expires)
			if !one.Impersonation || one.Redelegation || one.TrusteeID != trusteeID || fmt.Sprint(one.Roles) != "[member]" ||
				left < 89*24*time.Hour || left > 91*24*time.Hour {
				ts.Fatalf("a trust as it should not be: %+v", one)
			}
		}
	case "check-credentials":
		for _, one := range server.Credentials() {
			left := time.Until(one.Expires)
			if one.Unrestricted || fmt.Sprint(one.Roles) != "[member]" || !strings.HasPrefix(one.Name, "kubectl-") ||
				left < 29*24*time.Hour || left > 31*24*time.Hour {
				ts.Fatalf("an application credential as it should not be: %+v", one)
			}
		}
	default:
		ts.Fatalf("keystone %s?", args[0])
	}
}

// secretless looks for a secret in what was printed, and in all files but those that are named.
func secretless(ts *testscript.TestScript, _ bool, args []string) {
	secrets := []string{password}
	for _, token := range serverOf(ts).Valid() {
		secrets = append(secrets, token.Value)
	}
	for _, one := range serverOf(ts).Credentials() {
		secrets = append(secrets, one.Secret)
	}
	for _, name := range []string{"stdout", "stderr"} {
		for _, secret := range secrets {
			if strings.Contains(ts.ReadFile(name), secret) {
				ts.Fatalf("%s has the secret %s", name, secret)
			}
		}
	}
	ts.Check(filepath.WalkDir(ts.Getenv("HOME"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.Contains(string(text), password) {
			ts.Fatalf("%s has the password", path)
		}
		for _, allowed := range args {
			if strings.Contains(path, allowed) {
				return nil
			}
		}
		for _, secret := range secrets {
			if strings.Contains(string(text), secret) {
				ts.Fatalf("%s has a secret", path)
			}
		}
		return nil
	}))
}

// mode checks permissions: mode 600 FILE.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.ParseUint(args[0], 8, 32)
	ts.Check(err)
	for _, pattern := range args[1:] {
		found, err := filepath.Glob(ts.MkAbs(pattern))
		ts.Check(err)
		if len(found) == 0 {
			ts.Fatalf("there is no %s", pattern)
		}
		for _, path := range found {
			info, err := os.Stat(path)
			ts.Check(err)
			if info.Mode().Perm() != os.FileMode(want) {
				ts.Fatalf("%s has mode %o", path, info.Mode().Perm())
			}
		}
	}
}
