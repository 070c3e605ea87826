// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// Kind is what sort of trouble it is, and so whose.
type Kind string

const (
	// Usage is what was asked for makes no sense.
	Usage Kind = "Usage"
	// Unauthorized is a wrong or expired secret.
	Unauthorized Kind = "Unauthorized"
	// NeedsPasscode is a password that is not enough.
	NeedsPasscode Kind = "NeedsPasscode"
	// Forbidden is something that the user may not do.
	Forbidden Kind = "Forbidden"
	// NotFound is something that is not there.
	NotFound Kind = "NotFound"
	// Conflict is something that is there already.
	Conflict Kind = "Conflict"
	// Unavailable is a Keystone that does not answer just now.
	Unavailable Kind = "Unavailable"
	// Network is everything between here and Keystone that waiting does not mend.
	Network Kind = "Network"
)

// Error says what is wrong and what to do.
type Error struct {
	Kind    Kind
	Message string
}

func (e *Error) Error() string { return e.Message }

// Is tells that an error is of a kind.
func Is(err error, kind Kind) bool {
	failure, ok := errors.AsType[*Error](err)
	return ok && failure.Kind == kind
}

// refused explains an answer that is none.
func refused(address string, answer *http.Response, body []byte) *Error {
	said := message(body)
	switch code := answer.StatusCode; {
	case code == http.StatusUnauthorized && answer.Header.Get("Openstack-Auth-Receipt") != "":
		return &Error{Kind: NeedsPasscode, Message: "Keystone wants a one-time passcode beside the password; give it with -passcode"}
	case code == http.StatusUnauthorized && strings.Contains(strings.ToLower(said), "password is expired"):
		return &Error{Kind: Unauthorized, Message: "the password has expired; set a new one in the dashboard and log in again"}
	case code == http.StatusUnauthorized:
		return &Error{Kind: Unauthorized, Message: "Keystone does not accept the user name and password, or the credential has expired"}
	case code == http.StatusForbidden:
		return &Error{Kind: Forbidden, Message: "Keystone does not allow this: " + said}
	case code == http.StatusNotFound && said == silent:
		return &Error{Kind: Network, Message: "what answers at " + address + " is not Keystone; check the address"}
	case code == http.StatusNotFound:
		return &Error{Kind: NotFound, Message: "Keystone at " + address + " has no such thing: " + said}
	case code == http.StatusConflict:
		return &Error{Kind: Conflict, Message: "Keystone has one of that name already: " + said}
	case code/100 == 3:
		return &Error{Kind: Network, Message: fmt.Sprintf("%s is not Keystone's address any more: it points to %s; if that is right, use it as -auth-url",
			address, answer.Header.Get("Location"))}
	case code == http.StatusTooManyRequests || code/100 == 5:
		return &Error{Kind: Unavailable, Message: fmt.Sprintf("Keystone at %s has trouble (status %d); try again later", address, code)}
	default:
		return &Error{Kind: Network, Message: fmt.Sprintf("Keystone at %s answered with status %d: %s", address, code, said)}
	}
}

const silent = "no reason given"

// message is what Keystone says of an error: one line, not too long.
func message(body []byte) string {
	var answer struct {
		Error struct{ Message string }
	}
	if json.Unmarshal(body, &answer) != nil || answer.Error.Message == "" {
		return silent
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, answer.Error.Message)
	const longest = 300
	if runes := []rune(text); len(runes) > longest {
		text = string(runes[:longest]) + "…"
	}
	return text
}

// Unreachable explains why a server at an address did not answer. what is the server's name.
func Unreachable(what, address string, err error, now time.Time) *Error {
	say := func(kind Kind, format string, args ...any) *Error {
		return &Error{Kind: kind, Message: fmt.Sprintf(what+" at "+strings.ReplaceAll(address, "%", "%%")+" "+format, args...)}
	}
	if failure := distrusted(err, now, say); failure != nil {
		return failure
	}
	var (
		dns       *net.DNSError
		operation *net.OpError
	)
	switch {
	case errors.Is(err, context.Canceled):
		return &Error{Kind: Network, Message: "interrupted"}
	case errors.As(err, &dns) && dns.IsNotFound:
		return say(Network, "cannot be found: there is no host %q; check the address and the name server", dns.Name)
	case errors.As(err, &dns):
		return say(Unavailable, "cannot be found: the name server does not answer; check the network")
	case errors.Is(err, syscall.ECONNREFUSED):
		return say(Unavailable, "refuses connections; check the address and the port, or try again later")
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return say(Unavailable, "cannot be reached from this network; is a VPN needed?")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), timedOut(err):
		return say(Unavailable, "does not answer in time; check the network, or whether a firewall or VPN is between")
	case errors.As(err, &operation):
		return say(Unavailable, "broke the connection: %v", operation.Err)
	default:
		return say(Unavailable, "broke the connection")
	}
}

func timedOut(err error) bool {
	var failure net.Error
	return errors.As(err, &failure) && failure.Timeout()
}

// distrusted explains what is wrong with a server's certificate; nil if that is not the trouble.
func distrusted(err error, now time.Time, say func(kind Kind, format string, args ...any) *Error) *Error {
	var (
		unknown *x509.UnknownAuthorityError
		invalid *x509.CertificateInvalidError
		host    *x509.HostnameError
		record  *tls.RecordHeaderError
		alert   tls.AlertError
	)
	switch {
	case asValue(err, &unknown):
		return say(Network, "has a certificate of an authority that this machine does not know; name the file of the authority with -ca or OS_CACERT")
	case asValue(err, &invalid) && invalid.Reason == x509.Expired:
		return say(Network, "has a certificate that is not valid now (valid %s to %s, this machine's clock says %s); is the clock right?",
			invalid.Cert.NotBefore.UTC().Format(time.DateOnly), invalid.Cert.NotAfter.UTC().Format(time.DateOnly), now.UTC().Format(time.RFC3339))
	case asValue(err, &invalid):
		return say(Network, "has a certificate that is not valid: %v", invalid)
	case asValue(err, &host):
		return say(Network, "has a certificate for another host: %v", host)
	case asValue(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return say(Network, "does not speak TLS; check the port, or whether the address begins with http://")
	case errors.As(err, &alert):
		return say(Network, "broke off TLS: %v", alert)
	default:
		return nil
	}
}

// asValue finds an error that the standard library returns as a value and not as a pointer.
func asValue[E error](err error, into **E) bool {
	var found E
	if !errors.As(err, &found) {
		return false
	}
	*into = &found
	return true
}
