// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// addDebian installs the packages into an empty directory tree and writes it.
func (w *layerWriter) addDebian(ctx context.Context, debian Debian, work string) error {
	archive := filepath.Join(work, "root.tar")
	if err := bootstrap(ctx, debian, work, archive); err != nil {
		return err
	}
	defer func() { _ = os.Remove(archive) }() // as big as all the packages, and no longer needed
	file, err := os.Open(filepath.Clean(archive))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	exclude, err := patterns(debian.Exclude)
	if err != nil {
		return err
	}
	if err := w.copyRoot(tar.NewReader(file), exclude); err != nil {
		return fmt.Errorf("copy root file system: %w", err)
	}
	return nil
}

func bootstrap(ctx context.Context, debian Debian, work, archive string) error {
	release, err := codename()
	if err != nil {
		return err
	}
	sources, err := hostSources("/etc/apt", release, work)
	if err != nil {
		return err
	}
	settings, err := aptSettings(ctx, work)
	if err != nil {
		return err
	}
	// Only the essential packages and those asked for: no apt, no init, no documentation.
	arguments := []string{
		"--mode=root", "--variant=essential", "--format=tar",
		"--aptopt=" + settings, `--aptopt=Apt::Install-Recommends "false"`,
		"--include=" + strings.Join(debian.Packages, ","),
	}
	arguments = append(append(arguments, release, archive), sources...)
	command := exec.CommandContext(ctx, "mmdebstrap", arguments...) //nolint:gosec // the recipe is part of the repository
	command.Env = append(os.Environ(), "TMPDIR="+work, "LC_ALL=C.UTF-8")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("mmdebstrap: %w: %s", err, lastLines(output))
	}
	return nil
}

// unwanted are parts of a root file system that say something about the machine it
// was made on, or that a container brings itself.
func unwanted(name string) bool {
	switch name {
	case "", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/machine-id":
		return true
	}
	for _, dir := range []string{"dev/", "proc/", "sys/", "etc/apt/", "etc/dpkg/dpkg.cfg.d/", "var/cache/", "var/lib/apt/", "var/log/"} {
		if strings.HasPrefix(name, dir) && name != dir {
			return true
		}
	}
	return false
}

// patterns matches the paths of which one of list is the pattern; a star stands for
// anything, slashes too. They apply to the finished tree, not to dpkg, because
// packages' installation scripts may need what the image does not.
func patterns(list []string) (*regexp.Regexp, error) {
	quoted := make([]string, 0, len(list))
	for _, pattern := range list {
		quoted = append(quoted, strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*"))
	}
	return regexp.Compile("^(?:" + strings.Join(quoted, "|") + ")$")
}

func (w *layerWriter) copyRoot(reader *tar.Reader, exclude *regexp.Regexp) error {
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		header.Name = strings.TrimPrefix(header.Name, "./")
		if unwanted(header.Name) || exclude.MatchString("/"+strings.TrimSuffix(header.Name, "/")) {
			continue
		}
		if err := w.copyEntry(header, reader); err != nil {
			return err
		}
	}
}

func (w *layerWriter) copyEntry(header *tar.Header, content io.Reader) error {
	if header.Typeflag == tar.TypeLink {
		header.Linkname = strings.TrimPrefix(header.Linkname, "./")
	}
	if header.Typeflag == tar.TypeDir || header.Typeflag == tar.TypeSymlink {
		w.seen[strings.Trim(header.Name, "/")] = true // /bin may be a link to /usr/bin
	}
	if err := w.tar.WriteHeader(header); err != nil {
		return err
	}
	_, err := io.Copy(w.tar, content)
	return err
}

// codename is the name of this machine's release.
func codename() (string, error) {
	data, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", fmt.Errorf("find this machine's release: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "VERSION_CODENAME="); ok && value != "" {
			return strings.Trim(value, `"`), nil
		}
	}
	return "", errors.New("/etc/os-release has no VERSION_CODENAME: images of Debian packages need a Debian machine")
}

// hostSources copies this machine's package sources of release into work, and
// returns the files. Sources of other archives, which name other suites, are left
// out: a failure of theirs should not be the lab's.
func hostSources(etc, release, work string) ([]string, error) {
	paths := []string{filepath.Join(etc, "sources.list")}
	for _, pattern := range []string{"*.list", "*.sources"} {
		found, err := filepath.Glob(filepath.Join(etc, "sources.list.d", pattern))
		if err != nil {
			return nil, err
		}
		paths = append(paths, found...)
	}
	var files []string
	for _, path := range paths {
		data, err := os.ReadFile(filepath.Clean(path))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read package sources: %w", err)
		}
		split := oneLineSources
		if filepath.Ext(path) == ".sources" {
			split = stanzaSources
		}
		kept := split(string(data), release)
		if kept == "" {
			continue
		}
		file := filepath.Join(work, fmt.Sprintf("%d-%s", len(files), filepath.Base(path)))
		if err := os.WriteFile(file, []byte(kept), 0o600); err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no package source for release %s in %s", release, etc)
	}
	return files, nil
}

// oneLineSources keeps the lines `deb [options] URI suite components` of release.
func oneLineSources(text, release string) string {
	var kept strings.Builder
	for line := range strings.Lines(text) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "deb ")
		if !ok {
			continue
		}
		if _, after, found := strings.Cut(rest, "]"); found && strings.HasPrefix(strings.TrimSpace(rest), "[") {
			rest = after
		}
		if fields := strings.Fields(rest); len(fields) >= 2 && ofRelease(fields[1], release) {
			kept.WriteString(strings.TrimSpace(line) + "\n")
		}
	}
	return kept.String()
}

// stanzaSources keeps the deb822 stanzas of release.
func stanzaSources(text, release string) string {
	var kept []string
	for stanza := range strings.SplitSeq(strings.ReplaceAll(text, "\r\n", "\n"), "\n\n") {
		fields := map[string]string{}
		scanner := bufio.NewScanner(strings.NewReader(stanza))
		for scanner.Scan() {
			if key, value, ok := strings.Cut(scanner.Text(), ":"); ok && !strings.HasPrefix(key, "#") {
				fields[strings.ToLower(key)] = strings.TrimSpace(value)
			}
		}
		suites := strings.Fields(fields["suites"])
		binary := slices.Contains(strings.Fields(fields["types"]), "deb")
		enabled := !strings.EqualFold(fields["enabled"], "no")
		if binary && enabled && slices.ContainsFunc(suites, func(suite string) bool { return ofRelease(suite, release) }) {
			kept = append(kept, strings.Trim(stanza, "\n")+"\n")
		}
	}
	return strings.Join(kept, "\n")
}

// ofRelease tells whether suite is release or one of its updates.
func ofRelease(suite, release string) bool {
	return suite == release || suite == release+"-updates" || suite == release+"-security" || suite == release+"/updates"
}

// aptSettings writes how this machine's apt reaches its archives (proxies, time-outs,
// certificates) into a file, since mmdebstrap's apt does not read the machine's
// configuration, and returns its path.
func aptSettings(ctx context.Context, work string) (string, error) {
	output, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return "", fmt.Errorf("read apt's configuration: %w", err)
	}
	var kept strings.Builder
	for line := range strings.Lines(string(output)) {
		for _, group := range []string{"http", "https", "Retries", "Check-", "ForceIPv"} {
			if strings.HasPrefix(line, "Acquire::"+group) {
				kept.WriteString(line)
				break
			}
		}
	}
	path := filepath.Join(work, "apt.conf")
	if err := os.WriteFile(path, []byte(kept.String()), 0o600); err != nil {
		return "", err
	}
	return path, nil
}
