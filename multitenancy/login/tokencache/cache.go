// SPDX-License-Identifier: Apache-2.0

// Package tokencache keeps tokens between runs of the program, in files that only their
// user can read. Those who need the same token at the same time wait for one login.
package tokencache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// freshShare of a token's life it is handed out; after that there is a new one, so that who
	// has got it has time to use it.
	freshShare = 0.8
	lockPause  = 20 * time.Millisecond
	// remembered are how many processes that got a token are remembered.
	remembered = 16
)

// Token is what is kept.
type Token struct {
	Value   string    `json:"token"`
	Issued  time.Time `json:"issued"`
	Expires time.Time `json:"expires"`
}

// FreshUntil is when to ask for another one.
func (t Token) FreshUntil() time.Time {
	return t.Issued.Add(time.Duration(float64(t.Expires.Sub(t.Issued)) * freshShare))
}

// Cache is a directory with tokens.
type Cache struct {
	// Dir is made when it is needed.
	Dir string
	// Now is time.Now if it is nil.
	Now func() time.Time
	// Logger hears of a cache that cannot be used; without one there is a login each time. May be nil.
	Logger *slog.Logger
}

// Source makes and checks tokens.
type Source struct {
	// Fetch logs in.
	Fetch func(ctx context.Context) (Token, error)
	// Valid asks whether a token still works. An error means that it is not known.
	Valid func(ctx context.Context, token Token) (bool, error)
	// Final tells that an error of Fetch means that there shall be no more tokens, and not that the server is away.
	// May be nil.
	Final func(err error) bool
}

// Caller is the process that asked for the token, such as a kubectl. One that asks again
// for what it has been given already has been refused with it. Empty is nobody in particular.
type Caller string

// file is how a token lies on the disk.
type file struct {
	Token

	Callers []Caller `json:"callers,omitempty"`
}

// Key names an entry: what the token depends on.
func Key(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}

func (c Cache) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

func (c Cache) path(key string) string { return filepath.Join(c.Dir, key+".json") }

// Get returns the entry's token as long as it is fresh, and a new one otherwise. If there
// is none to be had, the old one does until it expires.
func (c Cache) Get(ctx context.Context, key string, caller Caller, from Source) (Token, error) {
	unlock, err := c.lock(ctx, key)
	switch {
	case ctx.Err() != nil:
		return Token{}, err
	case err != nil:
		c.report(ctx, err)
		return from.Fetch(ctx)
	}
	defer unlock()
	known, found := c.read(key)
	now := c.now()
	usable := found && now.Before(known.Expires) && !known.Issued.After(now.Add(time.Minute))
	refused := false
	if usable && now.Before(known.FreshUntil()) {
		if refused = c.refused(ctx, known, caller, from); !refused {
			c.remember(ctx, key, known, caller)
			return known.Token, nil
		}
	}
	token, err := from.Fetch(ctx)
	if err == nil {
		c.report(ctx, c.write(key, file{Token: token}.with(caller)))
		return token, nil
	}
	if usable && !refused && (from.Final == nil || !from.Final(err)) {
		return known.Token, nil
	}
	return Token{}, err
}

// remember notes who has got a token.
func (c Cache) remember(ctx context.Context, key string, known file, caller Caller) {
	if caller != "" && !known.has(caller) {
		c.report(ctx, c.write(key, known.with(caller)))
	}
}

func (c Cache) report(ctx context.Context, err error) {
	if err != nil && c.Logger != nil {
		c.Logger.WarnContext(ctx, "token not kept", "reason", err)
	}
}

// refused tells that a token does not work although it has not expired. It is asked about only
// for who has it already, and would not ask again if it did.
func (c Cache) refused(ctx context.Context, known file, caller Caller, from Source) bool {
	if !known.has(caller) || from.Valid == nil {
		return false
	}
	valid, err := from.Valid(ctx, known.Token)
	return err == nil && !valid
}

func (f file) has(caller Caller) bool { return caller != "" && slices.Contains(f.Callers, caller) }

func (f file) with(caller Caller) file {
	if caller == "" || f.has(caller) {
		return f
	}
	f.Callers = append(slices.Clone(f.Callers), caller)
	f.Callers = f.Callers[max(0, len(f.Callers)-remembered):]
	return f
}

// Forget removes an entry and returns what it was.
func (c Cache) Forget(ctx context.Context, key string) (token Token, found bool, err error) {
	if _, err := os.Stat(c.path(key)); errors.Is(err, fs.ErrNotExist) {
		return Token{}, false, nil
	}
	unlock, err := c.lock(ctx, key)
	if err != nil {
		return Token{}, false, err
	}
	defer unlock()
	known, found := c.read(key)
	if err := os.Remove(c.path(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Token{}, false, fmt.Errorf("remove the token from the cache: %w", err)
	}
	return known.Token, found, nil
}

// Peek is the entry as it is.
func (c Cache) Peek(key string) (Token, bool) {
	known, found := c.read(key)
	return known.Token, found
}

// read is an entry; one that cannot be understood, or that others could have written, is none.
func (c Cache) read(key string) (file, bool) {
	info, err := os.Lstat(c.path(key))
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return file{}, false
	}
	data, err := os.ReadFile(c.path(key))
	if err != nil {
		return file{}, false
	}
	var known file
	if json.Unmarshal(data, &known) != nil || known.Value == "" || known.Expires.IsZero() {
		return file{}, false
	}
	return known, true
}

func (c Cache) write(key string, entry file) (err error) {
	data, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("encode token: %w", err)
	}
	temporary, err := os.CreateTemp(c.Dir, "."+key[:8]+"-") // it has mode 0600
	if err != nil {
		return fmt.Errorf("keep the token: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name())
		}
	}()
	_, err = temporary.Write(data)
	if err = errors.Join(err, temporary.Close()); err != nil {
		return fmt.Errorf("keep the token: %w", err)
	}
	if err = os.Rename(temporary.Name(), c.path(key)); err != nil {
		return fmt.Errorf("keep the token: %w", err)
	}
	return nil
}

// lock makes others wait who want the same entry. The lock ends with the process, however that ends.
func (c Cache) lock(ctx context.Context, key string) (unlock func(), err error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the cache: %w", err)
	}
	if err := private(c.Dir); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(c.Dir, key+".lock"), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600) //nolint:gosec // whoever runs the program says which file
	if err != nil {
		return nil, fmt.Errorf("lock the cache: %w", err)
	}
	ticker := time.NewTicker(lockPause)
	defer ticker.Stop()
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = lock.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = lock.Close()
			return nil, fmt.Errorf("lock the cache: %w", err)
		}
		select {
		case <-ctx.Done():
			_ = lock.Close()
			return nil, fmt.Errorf("wait for another run's login: %w", ctx.Err())
		case <-ticker.C:
		}
	}
}

// private makes a directory its owner's only, and refuses one that is somebody else's.
func private(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at the directory of the cache: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory needs the x
		return fmt.Errorf("make the cache private: %w", err)
	}
	return nil
}
