// SPDX-License-Identifier: Apache-2.0

package mtconfig

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	secretMode = 0o600
	publicMode = 0o644
	// directoryMode lets the webhooks' user in; keys have modes of their own.
	directoryMode = 0o755
)

// Options of Install.
type Options struct {
	// Renew makes all certificates and keys anew, but for a CA that is good for longer than they are. Without it, a key
	// that is there is never written over.
	Renew bool
	// Now is the time; the current one when zero.
	Now time.Time
}

// Install writes what is missing or different, each file at once, sets modes and owners that are not as they should be, and
// returns the names of the files that it wrote or repaired, in order. What is right is left alone. The programs have to be told of new certificates of CAs; all else is read again by
// those who use it, or needs them to start again.
func Install(site Site, options Options) ([]string, error) {
	if options.Now.IsZero() {
		options.Now = time.Now()
	}
	i := &installer{site: site, options: options}
	if err := i.findOwner(); err != nil {
		return nil, err
	}
	if err := makeDirectory(site.Directory); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	err := i.run()
	return i.written, err
}

type installer struct {
	site    Site
	options Options
	// uid and gid own what the webhooks read; -1 is nobody in particular.
	uid, gid int
	written  []string
}

func (i *installer) findOwner() error {
	i.uid, i.gid = -1, -1
	if i.site.Owner == "" || os.Geteuid() != 0 {
		return nil
	}
	if id, err := strconv.Atoi(i.site.Owner); err == nil {
		i.uid, i.gid = id, id
		return nil
	}
	found, err := user.Lookup(i.site.Owner)
	if err != nil {
		return fmt.Errorf("owner: %w", err)
	}
	uid, uidErr := strconv.Atoi(found.Uid)
	gid, gidErr := strconv.Atoi(found.Gid)
	i.uid, i.gid = uid, gid
	return errors.Join(uidErr, gidErr)
}

func (i *installer) run() error {
	own, err := i.authority()
	if err != nil {
		return err
	}
	cluster, err := clusterAuthority(i.site)
	if err != nil {
		return err
	}
	for _, want := range i.site.certificates() {
		by := own
		if want.byCluster {
			by = cluster
		}
		if err := i.certificate(want, by); err != nil {
			return err
		}
	}
	ca, err := os.ReadFile(i.site.path(caFile))
	if err != nil {
		return fmt.Errorf("read CA: %w", err)
	}
	files, err := i.site.files(ca)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := i.write(name, []byte(files[name]), modeOf(name), true); err != nil {
			return err
		}
	}
	return nil
}

// modeOf keeps to itself what says how to reach the cluster, and what may have been given passwords.
func modeOf(name string) fs.FileMode {
	if strings.HasSuffix(name, ".key") || strings.HasSuffix(name, ".kubeconfig") || name == "authn.yaml" {
		return secretMode
	}
	return publicMode
}

func clusterAuthority(site Site) (authority, error) {
	have, err := readPair(site.ClusterCA.CertFile, site.ClusterCA.KeyFile)
	if err != nil {
		return authority{}, fmt.Errorf("clusterCA: %w", err)
	}
	found, err := parseAuthority(have)
	if err != nil {
		return authority{}, fmt.Errorf("clusterCA: %s: %w", site.ClusterCA.CertFile, err)
	}
	return found, nil
}

// authority reads the webhooks' CA, or makes it.
func (i *installer) authority() (authority, error) {
	have, err := readPair(i.site.path(caFile), i.site.path(caKeyFile))
	if err == nil {
		known, err := parseAuthority(have)
		lives := err == nil && i.options.Now.Add(certificateLife).Before(known.cert.NotAfter)
		switch {
		case lives, err == nil && !i.options.Renew:
			return known, errors.Join(i.repair(caKeyFile, i.access(secretMode, false)), i.repair(caFile, i.access(publicMode, true)))
		case !i.options.Renew:
			return authority{}, fmt.Errorf("%s: %w; --renew makes it anew", i.site.path(caFile), err)
		}
	} else if !errors.Is(err, errNone) && !i.options.Renew {
		return authority{}, fmt.Errorf("%w; --renew makes both anew", err)
	}
	made, err := newAuthority(i.options.Now)
	if err != nil {
		return authority{}, fmt.Errorf("make CA: %w", err)
	}
	// Nobody but this program needs the CA's key.
	if err := errors.Join(i.write(caKeyFile, made.key, secretMode, false), i.write(caFile, made.cert, publicMode, true)); err != nil {
		return authority{}, err
	}
	return parseAuthority(made)
}

// certificate makes a certificate unless there is the one that is wanted.
func (i *installer) certificate(want wanted, by authority) error {
	certFile, keyFile := want.file+".crt", want.file+".key"
	have, err := readPair(i.site.path(certFile), i.site.path(keyFile))
	if err == nil {
		err = want.fits(have, by.cert, i.options.Now)
	}
	switch {
	case i.options.Renew, errors.Is(err, errNone):
	case err != nil:
		return fmt.Errorf("%s: %w; --renew makes it anew", i.site.path(certFile), err)
	default:
		return errors.Join(i.repair(keyFile, i.access(secretMode, true)), i.repair(certFile, i.access(publicMode, true)))
	}
	made, err := by.issue(want, i.options.Now)
	if err != nil {
		return fmt.Errorf("make certificate %s: %w", certFile, err)
	}
	return errors.Join(i.write(keyFile, made.key, secretMode, true), i.write(certFile, made.cert, publicMode, true))
}

// errNone is when there is neither a certificate nor a key.
var errNone = errors.New("there is none")

// readPair reads a certificate and its key.
func readPair(certFile, keyFile string) (pair, error) {
	cert, certErr := os.ReadFile(filepath.Clean(certFile))
	key, keyErr := os.ReadFile(filepath.Clean(keyFile))
	if errors.Is(certErr, fs.ErrNotExist) && errors.Is(keyErr, fs.ErrNotExist) {
		return pair{}, fmt.Errorf("%s: %w", certFile, errNone)
	}
	return pair{cert: cert, key: key}, errors.Join(certErr, keyErr)
}

// makeDirectory makes one with its mode, whatever the umask is. One that is there keeps its own.
func makeDirectory(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	return errors.Join(os.MkdirAll(path, directoryMode), os.Chmod(path, directoryMode))
}

// write writes a file of which readers see all or nothing, unless it has the content.
func (i *installer) write(name string, content []byte, mode fs.FileMode, theirs bool) error {
	path, want := i.site.path(name), i.access(mode, theirs)
	known, err := os.ReadFile(filepath.Clean(path))
	if err == nil && string(known) == string(content) {
		return i.repair(name, want)
	}
	if err := makeDirectory(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	temporary := path + ".new"
	// The mode is set again, since a umask takes from it what others need.
	if err := os.WriteFile(temporary, content, mode); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := want.give(temporary); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", name, err), os.Remove(temporary))
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	i.written = append(i.written, name)
	return nil
}

// Finding is what is not as it should be with a file.
type Finding struct {
	// File is its name in the directory.
	File string
	// Problem says what is wrong with it.
	Problem string
}

// Check looks at an installed directory and changes nothing.
func Check(site Site, now time.Time) ([]Finding, error) {
	var findings []Finding
	find := func(file, format string, args ...any) {
		findings = append(findings, Finding{File: file, Problem: fmt.Sprintf(format, args...)})
	}
	i := &installer{site: site}
	if err := i.findOwner(); err != nil {
		return nil, err
	}
	cluster, err := clusterAuthority(site)
	if err != nil {
		return nil, err
	}
	ca, _ := os.ReadFile(site.path(caFile)) // what is wrong with it is found below
	own, ownErr := readPair(site.path(caFile), site.path(caKeyFile))
	known, parseErr := parseAuthority(own)
	if err := errors.Join(ownErr, parseErr); err != nil {
		find(caFile, "missing or unusable: %v", err)
	}
	checkExpiry(caFile, ca, now, find)
	i.checkAccess(caKeyFile, i.access(secretMode, false), find)
	i.checkAccess(caFile, i.access(publicMode, true), find)
	for _, want := range site.certificates() {
		by := known.cert
		if want.byCluster {
			by = cluster.cert
		}
		checkCertificate(site, want, by, now, find)
		i.checkAccess(want.file+".key", i.access(secretMode, true), find)
		i.checkAccess(want.file+".crt", i.access(publicMode, true), find)
	}
	files, err := site.files(ca)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content, err := os.ReadFile(filepath.Clean(site.path(name)))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			find(name, "missing")
		case err != nil:
			find(name, "%v", err)
		case string(content) != files[name]:
			find(name, "differs from what the site's file says")
		}
		i.checkAccess(name, i.access(modeOf(name), true), find)
	}
	return findings, nil
}

func checkCertificate(site Site, want wanted, by *x509.Certificate, now time.Time, find func(file, format string, args ...any)) {
	file := want.file + ".crt"
	have, err := readPair(site.path(file), site.path(want.file+".key"))
	switch {
	case errors.Is(err, errNone):
		find(file, "missing")
		return
	case err != nil:
		find(file, "%v", err)
		return
	}
	if by != nil {
		if err := want.fits(have, by, now); err != nil {
			find(file, "%v", err)
		}
	}
	checkExpiry(file, have.cert, now, find)
}

func (i *installer) checkAccess(name string, want access, find func(file, format string, args ...any)) {
	problem, err := want.problem(i.site.path(name))
	switch {
	case err != nil:
		find(name, "%v", err)
	case problem != "":
		find(name, "%s", problem)
	}
}

func checkExpiry(file string, content []byte, now time.Time, find func(file, format string, args ...any)) {
	ends, err := expiry(content)
	if err == nil && ends.Before(now.Add(soon)) {
		find(file, "expires %s: --renew", ends.Format(time.DateOnly))
	}
}
