// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/registry"
)

// serve runs a registry on dir and returns its address and how to stop it.
func serve(t *testing.T, dir string) (address string, stop func()) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- registry.Serve(ctx, listener, dir) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		assert.NoError(t, <-ended)
	}
	t.Cleanup(stop)
	return listener.Addr().String(), stop
}

func pull(t *testing.T, address, reference string) (v1.Image, error) {
	t.Helper()
	target, err := name.ParseReference(address+"/"+reference, name.Insecure)
	require.NoError(t, err)
	return remote.Image(target, remote.WithContext(t.Context()))
}

func TestPushedImageIsPulledByTagAndDigestAlsoAfterRestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	address, stop := serve(t, dir)
	image, err := random.Image(1<<20, 3)
	require.NoError(t, err)
	digest, err := image.Digest()
	require.NoError(t, err)

	require.NoError(t, registry.Push(t.Context(), address, nil, image, "ghcr.io/cloudveneto/python:1"))
	for _, reference := range []string{"cloudveneto/python:1", "cloudveneto/python@" + digest.String()} {
		pulled, err := pull(t, address, reference)
		require.NoError(t, err)
		require.NoError(t, validate.Image(pulled), "every layer has the content that its digest says")
		got, err := pulled.Digest()
		require.NoError(t, err)
		assert.Equal(t, digest, got)
	}

	stop()
	address, _ = serve(t, dir)
	pulled, err := pull(t, address, "cloudveneto/python:1")
	require.NoError(t, err)
	require.NoError(t, validate.Image(pulled))
}

func TestPushNamesImagesAsNodesAskForThem(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ reference, stored string }{
		"official image, in full": {"docker.io/library/busybox:1.36", "library/busybox:1.36"},
		"official image, short":   {"busybox:1.36", "library/busybox:1.36"},
		"other registry":          {"ghcr.io/cloudveneto/python:1", "cloudveneto/python:1"},
		"registry with a port":    {"localhost:5001/a/b/c:x", "a/b/c:x"},
		"no tag":                  {"registry.k8s.io/pause", "pause:latest"},
	}
	address, _ := serve(t, t.TempDir())
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			image, err := random.Image(64, 1)
			require.NoError(t, err)
			require.NoError(t, registry.Push(t.Context(), address, nil, image, test.reference))
			pulled, err := pull(t, address, test.stored)
			require.NoError(t, err)
			require.NoError(t, validate.Image(pulled))
		})
	}
}

func TestPushRefusesDigests(t *testing.T) {
	t.Parallel()
	image, err := random.Image(64, 1)
	require.NoError(t, err)
	reference := "docker.io/library/x@sha256:" + strings.Repeat("0", 64)
	require.Error(t, registry.Push(t.Context(), "127.0.0.1:1", nil, image, reference))
}

func TestPushUsesDial(t *testing.T) {
	t.Parallel()
	address, _ := serve(t, t.TempDir())
	image, err := random.Image(64, 1)
	require.NoError(t, err)
	dial := func(ctx context.Context, network, asked string) (net.Conn, error) {
		assert.Equal(t, "192.0.2.1:5000", asked)
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	require.NoError(t, registry.Push(t.Context(), "192.0.2.1:5000", dial, image, "docker.io/library/x:1"))
	_, err = pull(t, address, "library/x:1")
	require.NoError(t, err)
}

func TestSecondPushSendsNoLayer(t *testing.T) {
	t.Parallel()
	handler, err := registry.New(t.TempDir())
	require.NoError(t, err)
	var uploads atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			uploads.Add(1)
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	address := strings.TrimPrefix(server.URL, "http://")
	image, err := random.Image(64, 1)
	require.NoError(t, err)
	require.NoError(t, registry.Push(t.Context(), address, nil, image, "x:1"))
	assert.EqualValues(t, 2, uploads.Load(), "one layer and the configuration")
	require.NoError(t, registry.Push(t.Context(), address, nil, image, "x:2"))
	assert.EqualValues(t, 2, uploads.Load())
}

func TestRequests(t *testing.T) {
	t.Parallel()
	const empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	other := "sha256:" + strings.Repeat("0", 64)
	tests := map[string]struct {
		method, path, body string
		status             int
		code               string
	}{
		"version":                  {method: "GET", path: "/v2/", status: 200},
		"missing blob":             {method: "GET", path: "/v2/a/blobs/" + other, status: 404, code: "BLOB_UNKNOWN"},
		"missing tag":              {method: "GET", path: "/v2/a/manifests/1", status: 404, code: "MANIFEST_UNKNOWN"},
		"missing digest":           {method: "GET", path: "/v2/a/manifests/" + other, status: 404, code: "MANIFEST_UNKNOWN"},
		"missing name":             {method: "GET", path: "/v2/a/tags/list", status: 404, code: "NAME_UNKNOWN"},
		"blob in one request":      {method: "POST", path: "/v2/a/blobs/uploads/?digest=" + empty, status: 201},
		"blob with wrong digest":   {method: "POST", path: "/v2/a/blobs/uploads/?digest=" + other, status: 400, code: "DIGEST_INVALID"},
		"blob with a path":         {method: "POST", path: "/v2/a/blobs/uploads/?digest=sha256:../../x", status: 400, code: "DIGEST_INVALID"},
		"unknown upload":           {method: "PATCH", path: "/v2/a/blobs/uploads/" + strings.Repeat("0", 32), status: 404, code: "BLOB_UPLOAD_UNKNOWN"},
		"manifest not JSON":        {method: "PUT", path: "/v2/a/manifests/1", body: "{", status: 400, code: "MANIFEST_INVALID"},
		"manifest too long":        {method: "PUT", path: "/v2/a/manifests/1", body: strings.Repeat(" ", 5<<20), status: 400, code: "MANIFEST_INVALID"},
		"manifest with wrong name": {method: "PUT", path: "/v2/a/manifests/" + other, body: "{}", status: 400, code: "DIGEST_INVALID"},
		"manifest without layer":   {method: "PUT", path: "/v2/a/manifests/1", body: `{"layers":[{"digest":"` + other + `"}]}`, status: 400, code: "MANIFEST_BLOB_UNKNOWN"},
		"manifest with a path":     {method: "PUT", path: "/v2/a/manifests/1", body: `{"config":{"digest":"../x"}}`, status: 400, code: "MANIFEST_INVALID"},
		"name with dots":           {method: "GET", path: "/v2/a/../../b/tags/list", status: 404},
		"delete":                   {method: "DELETE", path: "/v2/a/blobs/" + other, status: 405},
	}
	for title, test := range tests {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			handler, err := registry.New(t.TempDir())
			require.NoError(t, err)
			server := httptest.NewServer(handler)
			t.Cleanup(server.Close)
			request, err := http.NewRequestWithContext(t.Context(), test.method, server.URL+test.path, strings.NewReader(test.body))
			require.NoError(t, err)
			response, err := server.Client().Do(request)
			require.NoError(t, err)
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			require.NoError(t, err)
			assert.Equal(t, test.status, response.StatusCode, string(body))
			if test.code != "" {
				assert.Contains(t, string(body), `"`+test.code+`"`)
			}
		})
	}
}

func TestTagsAreListedAndMoved(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	address, _ := serve(t, dir)
	var last v1.Image
	for range 2 {
		image, err := random.Image(64, 1)
		require.NoError(t, err)
		require.NoError(t, registry.Push(t.Context(), address, nil, image, "docker.io/library/x:1"))
		last = image
	}
	require.NoError(t, registry.Push(t.Context(), address, nil, last, "docker.io/library/x:2"))

	pulled, err := pull(t, address, "library/x:1")
	require.NoError(t, err)
	want, err := last.Digest()
	require.NoError(t, err)
	got, err := pulled.Digest()
	require.NoError(t, err)
	assert.Equal(t, want, got, "a tag is moved to what was pushed last")

	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/v2/library/x/tags/list", nil)
	require.NoError(t, err)
	response, err := (&http.Client{}).Do(request)
	require.NoError(t, err)
	defer response.Body.Close()
	var list struct{ Tags []string }
	require.NoError(t, json.NewDecoder(response.Body).Decode(&list))
	assert.Equal(t, []string{"1", "2"}, list.Tags)

	left, err := filepath.Glob(filepath.Join(dir, "uploads", "*"))
	require.NoError(t, err)
	assert.Empty(t, left, "no upload is left")
}

func TestInterruptedUploadLeavesNoBlob(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	handler, err := registry.New(dir)
	require.NoError(t, err)
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/v2/a/blobs/uploads/", nil)
	require.NoError(t, err)
	response, err := server.Client().Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusAccepted, response.StatusCode)

	request, err = http.NewRequestWithContext(t.Context(), http.MethodPatch, server.URL+response.Header.Get("Location"), bytes.NewBufferString("part"))
	require.NoError(t, err)
	response, err = server.Client().Do(request)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	assert.Equal(t, "0-3", response.Header.Get("Range"))
	blobs, err := filepath.Glob(filepath.Join(dir, "blobs", "*"))
	require.NoError(t, err)
	assert.Empty(t, blobs)
}
