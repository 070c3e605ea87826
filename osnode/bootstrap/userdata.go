// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// MaxSize is how many bytes of user data Nova takes: 65535 when encoded in base64
// (nova/api/openstack/compute/schemas/servers.py).
const MaxSize = 65535 / 4 * 3

// MaxUserPart is how long the user's part may be.
const MaxUserPart = 16 << 10

// Node is one machine.
type Node struct {
	// NodeID is the name of the Node.
	NodeID string
	// Token is the bootstrap token, id and secret.
	Token string
	// UserData is the user's part; may be empty. See UserPart for what it may be.
	UserData string
}

// LogValue keeps the token out of logs.
func (n Node) LogValue() slog.Value {
	return slog.GroupValue(slog.String("nodeId", n.NodeID))
}

// TooLargeError is user data that Nova would refuse.
type TooLargeError struct{ Size int }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("the user data has %d bytes, and at most %d are possible: make userData shorter", e.Size, MaxSize)
}

// CheckSize tells with a *TooLargeError whether Nova would refuse the user data.
func CheckSize(data []byte) error {
	if base64.StdEncoding.EncodedLen(len(data)) > 65535 {
		return &TooLargeError{Size: len(data)}
	}
	return nil
}

// UserPartError is a user's part that cannot be used. The message is for the user.
type UserPartError struct{ Err error }

func (e *UserPartError) Error() string { return "userData: " + e.Err.Error() }

func (e *UserPartError) Unwrap() error { return e.Err }

// UserData is what a machine boots with. The settings must be valid. The error is a
// *UserPartError or a *TooLargeError when the user can do something about it.
func UserData(settings Settings, node Node) ([]byte, error) {
	settings = settings.Complete()
	if err := node.validate(); err != nil {
		return nil, err
	}
	prepare, err := settings.prepare(node)
	if err != nil {
		return nil, err
	}
	owned, err := settings.owned()
	if err != nil {
		return nil, err
	}
	site, err := extraParts("site", settings.ExtraUserData, owned)
	if err != nil {
		return nil, fmt.Errorf("extraUserData: %w", err)
	}
	user, err := userParts(node.UserData, owned)
	if err != nil {
		return nil, &UserPartError{Err: err}
	}
	parts := append([]part{prepare}, site...)
	if start, ok, err := settings.start(); err != nil {
		return nil, err
	} else if ok {
		parts = append(parts, start)
	}
	data := message(append(parts, user...))
	return data, CheckSize(data)
}

// CheckUserData tells with a *UserPartError whether a user's part can be used.
func CheckUserData(settings Settings, text string) error {
	settings = settings.Complete()
	owned, err := settings.owned()
	if err != nil {
		return err
	}
	if _, err := userParts(text, owned); err != nil {
		return &UserPartError{Err: err}
	}
	return nil
}

func userParts(text string, owned owned) ([]part, error) {
	if len(text) > MaxUserPart {
		return nil, fmt.Errorf("it has %d bytes, and at most %d are possible", len(text), MaxUserPart)
	}
	return extraParts("user", text, owned)
}

func (n *Node) validate() error {
	if reasons := validation.IsDNS1123Label(n.NodeID); len(reasons) > 0 {
		return fmt.Errorf("node id %q: %s", n.NodeID, strings.Join(reasons, ", "))
	}
	if !regexp.MustCompile(`^[a-z0-9]{6}\.[a-z0-9]{16}$`).MatchString(n.Token) {
		return errors.New("the bootstrap token has not the form of one")
	}
	return nil
}
