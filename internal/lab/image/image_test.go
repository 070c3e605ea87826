// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/image"
)

const repository = "../../.."

// entries are an image's files: what a link points to, or what a file holds.
func entries(t *testing.T, reader io.Reader) map[string]string {
	t.Helper()
	found := map[string]string{}
	for archive := tar.NewReader(reader); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		require.NoError(t, err)
		content, err := io.ReadAll(archive)
		require.NoError(t, err)
		if header.Linkname != "" {
			content = []byte("-> " + header.Linkname)
		}
		_, twice := found[header.Name]
		assert.False(t, twice, "%s is there once", header.Name)
		found[header.Name] = string(content)
	}
}

func open(t *testing.T, built image.Image) v1.Image {
	t.Helper()
	opened, err := image.Open(built.Layout)
	require.NoError(t, err)
	layers, err := opened.Layers()
	require.NoError(t, err)
	require.Len(t, layers, 1)
	for _, side := range []struct {
		name func() (v1.Hash, error)
		read func() (io.ReadCloser, error)
	}{{layers[0].Digest, layers[0].Compressed}, {layers[0].DiffID, layers[0].Uncompressed}} {
		want, err := side.name()
		require.NoError(t, err)
		content, err := side.read()
		require.NoError(t, err)
		got, _, err := v1.SHA256(content)
		require.NoError(t, errors.Join(err, content.Close()))
		assert.Equal(t, want, got)
	}
	mediaType, err := layers[0].MediaType()
	require.NoError(t, err)
	assert.Equal(t, types.OCILayerZStd, mediaType)
	return opened
}

// multicall is a stand-in for busybox.
func multicall(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "busybox")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n[ \"$1\" = --list ] && printf 'busybox\\nls\\nsh\\n'\n"), 0o700))
	return path
}

func TestImageOfFiles(t *testing.T) {
	t.Parallel()
	recipe := image.Recipe{
		Reference:   "docker.io/library/tool:1",
		Files:       []image.File{{Source: multicall(t), Path: "/opt/bin/busybox", Applets: true}},
		Command:     []string{"sh"},
		Environment: map[string]string{"B": "2", "A": "1"},
		User:        "65534",
	}
	cache := t.TempDir()
	built, err := image.Build(t.Context(), image.Options{Cache: cache}, recipe)
	require.NoError(t, err)
	opened := open(t, built)
	files := entries(t, mutate.Extract(opened))
	assert.Contains(t, files["opt/bin/busybox"], "#!/bin/sh")
	assert.Equal(t, "-> busybox", files["opt/bin/ls"])
	assert.Equal(t, "-> busybox", files["opt/bin/sh"])
	assert.Contains(t, files, "tmp")
	assert.Contains(t, files["etc/passwd"], "nobody:x:65534")

	config, err := opened.ConfigFile()
	require.NoError(t, err)
	assert.Equal(t, []string{"sh"}, config.Config.Cmd)
	assert.Equal(t, "65534", config.Config.User)
	require.Len(t, config.Config.Env, 3)
	assert.Contains(t, config.Config.Env[0], "PATH=/usr/local/sbin:")
	assert.Equal(t, []string{"A=1", "B=2"}, config.Config.Env[1:])
	assert.Equal(t, "linux", config.OS)
	mediaType, err := opened.MediaType()
	require.NoError(t, err)
	assert.Equal(t, types.OCIManifestSchema1, mediaType)
	assert.Positive(t, built.Size)
}

func TestCacheKeepsWhatIsTheSame(t *testing.T) {
	t.Parallel()
	source := multicall(t)
	recipe := image.Recipe{Reference: "docker.io/library/tool:1", Files: []image.File{{Source: source, Path: "/bin/busybox"}}}
	options := image.Options{Cache: t.TempDir()}
	first, err := image.Build(t.Context(), options, recipe)
	require.NoError(t, err)
	info, err := os.Stat(first.Layout)
	require.NoError(t, err)

	again, err := image.Build(t.Context(), options, recipe)
	require.NoError(t, err)
	assert.Equal(t, first, again)
	same, err := os.Stat(again.Layout)
	require.NoError(t, err)
	assert.True(t, os.SameFile(info, same), "it is not built anew")

	blobs, err := filepath.Glob(filepath.Join(first.Layout, "blobs", "sha256", "*"))
	require.NoError(t, err)
	for _, blob := range blobs {
		require.NoError(t, os.Remove(blob))
	}
	repaired, err := image.Build(t.Context(), options, recipe)
	require.NoError(t, err)
	open(t, repaired) // a broken layout is replaced

	require.NoError(t, os.WriteFile(source, []byte("other"), 0o700))
	changed, err := image.Build(t.Context(), options, recipe)
	require.NoError(t, err)
	assert.NotEqual(t, first.Layout, changed.Layout, "other content is another image")
	recipe.Command = []string{"x"}
	configured, err := image.Build(t.Context(), options, recipe)
	require.NoError(t, err)
	assert.NotEqual(t, changed.Layout, configured.Layout, "another configuration too")

	left, err := filepath.Glob(filepath.Join(options.Cache, "images", ".build-*"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestConcurrentBuildsBuildOnce(t *testing.T) {
	t.Parallel()
	recipe := image.Recipe{Reference: "docker.io/library/tool:1", Files: []image.File{{Source: multicall(t), Path: "/bin/busybox"}}}
	cache := t.TempDir()
	var mu sync.Mutex
	compressed := 0
	options := image.Options{Cache: cache, Progress: func(step string, elapsed time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		assert.GreaterOrEqual(t, elapsed, time.Duration(0))
		if step == "compress" {
			compressed++
		}
	}}
	var building sync.WaitGroup
	for range 5 {
		building.Go(func() {
			_, err := image.Build(t.Context(), options, recipe)
			assert.NoError(t, err)
		})
	}
	building.Wait()
	assert.Equal(t, 1, compressed)
}

func TestPauseWaitsAndEndsWhenTold(t *testing.T) {
	t.Parallel()
	recipe, err := image.Load(filepath.Join(repository, "hack", "images", "pause.yaml"))
	require.NoError(t, err)
	built, err := image.Build(t.Context(), image.Options{Source: repository, Cache: t.TempDir()}, recipe)
	require.NoError(t, err)
	files := entries(t, mutate.Extract(open(t, built)))
	program := filepath.Join(t.TempDir(), "pause")
	require.NoError(t, os.WriteFile(program, []byte(files["pause"]), 0o700))
	command := exec.CommandContext(t.Context(), program)
	require.NoError(t, command.Start())
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	assert.Never(t, func() bool { return len(ended) > 0 }, 200*time.Millisecond, 20*time.Millisecond, "it waits")
	require.NoError(t, command.Process.Signal(os.Interrupt))
	require.Eventually(t, func() bool { return len(ended) > 0 }, 10*time.Second, 10*time.Millisecond, "it ends")
	require.NoError(t, <-ended)
}

func TestArchiveIsWhatContainerdImports(t *testing.T) {
	t.Parallel()
	recipe := image.Recipe{Reference: "docker.io/library/tool:1", Files: []image.File{{Source: multicall(t), Path: "/bin/busybox"}}}
	built, err := image.Build(t.Context(), image.Options{Cache: t.TempDir()}, recipe)
	require.NoError(t, err)
	var archive bytes.Buffer
	require.NoError(t, image.Archive(t.Context(), built.Layout, &archive))
	files := entries(t, &archive)
	assert.JSONEq(t, `{"imageLayoutVersion":"1.0.0"}`, files["oci-layout"])
	assert.Contains(t, files["index.json"], `"io.containerd.image.name": "docker.io/library/tool:1"`)
	blobs := 0
	for name := range files {
		if strings.HasPrefix(name, "blobs/sha256/") {
			blobs++
		}
	}
	assert.Equal(t, 3, blobs, "manifest, configuration and layer")
}

func TestRecipesOfTheRepository(t *testing.T) {
	t.Parallel()
	recipes, err := image.LoadAll(filepath.Join(repository, "hack", "images"))
	require.NoError(t, err)
	var references []string
	for _, recipe := range recipes {
		references = append(references, recipe.Reference)
	}
	assert.Equal(t, []string{"docker.io/library/busybox:1.36", "ghcr.io/cloudveneto/jupyter:1", "registry.k8s.io/pause:3.10.1", "ghcr.io/cloudveneto/python:1"}, references)
}

func TestRecipeProblems(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, problem string }{
		"unknown field":    {"reference: docker.io/library/x:1\nfoo: 1\n", "foo"},
		"no reference":     {"files: [{source: /a, path: /a}]\n", "reference"},
		"no tag":           {"reference: docker.io/library/x\nfiles: [{source: /a, path: /a}]\n", "reference"},
		"nothing in it":    {"reference: docker.io/library/x:1\n", "no files"},
		"relative path":    {"reference: docker.io/library/x:1\nfiles: [{source: a, path: /a}]\n", "absolute"},
		"program outside":  {"reference: docker.io/library/x:1\nprograms: [{package: x/y, path: /a}]\n", "./package"},
		"no packages":      {"reference: docker.io/library/x:1\ndebian: {}\n", "no packages"},
		"not YAML":         {"{", "decode"},
		"several problems": {"reference: x\ndebian: {}\n", "no packages"},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "x.yaml")
			require.NoError(t, os.WriteFile(path, []byte(test.text), 0o600))
			_, err := image.Load(path)
			require.ErrorContains(t, err, test.problem)
		})
	}
	_, err := image.LoadAll(t.TempDir())
	require.ErrorContains(t, err, "no image recipes")
}

func TestBuildErrorsNameTheImage(t *testing.T) {
	t.Parallel()
	tests := map[string]image.Recipe{
		"missing file":      {Reference: "docker.io/library/x:1", Files: []image.File{{Source: "/nonexistent", Path: "/x"}}},
		"program not there": {Reference: "docker.io/library/x:1", Programs: []image.Program{{Package: "./nonexistent", Path: "/x"}}},
	}
	for title, recipe := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			_, err := image.Build(t.Context(), image.Options{Source: repository, Cache: t.TempDir()}, recipe)
			require.ErrorContains(t, err, "docker.io/library/x:1")
			require.ErrorContains(t, err, "nonexistent")
		})
	}
}

func TestHostSources(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		files map[string]string
		want  []string // the files' contents
	}{
		"one line each": {
			files: map[string]string{"sources.list": "# deb http://no.example/ trixie main\ndeb [arch=amd64 signed-by=/k] http://a.example/ trixie main\ndeb http://a.example/ trixie-updates main\ndeb http://b.example/ stable main\ndeb-src http://a.example/ trixie main\ndeb http://s.example/ trixie-security main\n"},
			want:  []string{"deb [arch=amd64 signed-by=/k] http://a.example/ trixie main\ndeb http://a.example/ trixie-updates main\ndeb http://s.example/ trixie-security main\n"},
		},
		"stanzas": {
			files: map[string]string{
				"sources.list.d/debian.sources": "Types: deb deb-src\nURIs: http://a.example/\nSuites: trixie trixie-updates\nComponents: main\n\nTypes: deb\nURIs: http://b.example/\nSuites: nodistro\nComponents: main\n\nTypes: deb\nEnabled: no\nURIs: http://c.example/\nSuites: trixie\nComponents: main\n",
				"sources.list.d/other.list":     "deb http://d.example/ sdk-trixie main\n",
			},
			want: []string{"Types: deb deb-src\nURIs: http://a.example/\nSuites: trixie trixie-updates\nComponents: main\n"},
		},
		"none": {files: map[string]string{"sources.list": "deb http://a.example/ sid main\n"}},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			etc := t.TempDir()
			require.NoError(t, os.Mkdir(filepath.Join(etc, "sources.list.d"), 0o700))
			for name, text := range test.files {
				require.NoError(t, os.WriteFile(filepath.Join(etc, name), []byte(text), 0o600))
			}
			found, err := image.HostSources(etc, "trixie", t.TempDir())
			if test.want == nil {
				require.ErrorContains(t, err, "no package source")
				return
			}
			require.NoError(t, err)
			var texts []string
			for _, path := range found {
				text, err := os.ReadFile(path)
				require.NoError(t, err)
				texts = append(texts, string(text))
			}
			assert.Equal(t, test.want, texts)
		})
	}
}

func TestRootFileSystemLosesWhatIsTheMachines(t *testing.T) {
	t.Parallel()
	var root bytes.Buffer
	writer := tar.NewWriter(&root)
	for _, header := range []tar.Header{
		{Typeflag: tar.TypeDir, Name: "./"},
		{Typeflag: tar.TypeDir, Name: "./etc/"},
		{Typeflag: tar.TypeReg, Name: "./etc/passwd"},
		{Typeflag: tar.TypeReg, Name: "./etc/resolv.conf"},
		{Typeflag: tar.TypeDir, Name: "./etc/apt/"},
		{Typeflag: tar.TypeReg, Name: "./etc/apt/sources.list"},
		{Typeflag: tar.TypeDir, Name: "./dev/"},
		{Typeflag: tar.TypeChar, Name: "./dev/null"},
		{Typeflag: tar.TypeReg, Name: "./usr/bin/perl"},
		{Typeflag: tar.TypeLink, Name: "./usr/bin/perl5", Linkname: "./usr/bin/perl"},
		{Typeflag: tar.TypeDir, Name: "./usr/share/doc/"},
		{Typeflag: tar.TypeReg, Name: "./usr/share/doc/a/b"},
		{Typeflag: tar.TypeReg, Name: "./usr/lib/python3/dist-packages/numpy/core/tests/x.py"},
		{Typeflag: tar.TypeReg, Name: "./usr/lib/python3/dist-packages/numpy/testing/x.py"},
	} {
		require.NoError(t, writer.WriteHeader(&header))
	}
	require.NoError(t, writer.Close())
	var layer bytes.Buffer
	require.NoError(t, image.CopyRoot(&layer, &root, []string{"/usr/share/doc/*", "/usr/lib/python3/dist-packages/*/tests/*"}))
	assert.Equal(t, map[string]string{
		"etc/": "", "etc/passwd": "", "etc/apt/": "", "dev/": "", "usr/bin/perl": "", "usr/bin/perl5": "-> usr/bin/perl",
		"usr/share/doc/": "", "usr/lib/python3/dist-packages/numpy/testing/x.py": "",
	}, entries(t, &layer))
}
