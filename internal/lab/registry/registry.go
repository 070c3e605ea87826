// SPDX-License-Identifier: Apache-2.0

// Package registry is the lab's container image registry: the part of the OCI
// distribution protocol that containerd and go-containerregistry use, on plain
// files, so that a restart loses nothing and a large layer is never in memory.
//
// It has no users and no TLS: it listens in the lab's own network namespace.
package registry

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/mux"
)

const (
	// nameExpression and tagExpression are the distribution specification's.
	nameExpression   = `[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*`
	tagExpression    = `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
	digestExpression = `sha256:[a-f0-9]{64}`
	uploadExpression = `[a-f0-9]{32}`

	// maxManifest bounds a manifest, which is read into memory.
	maxManifest = 4 << 20
	// transferTimeout bounds one request, of which the longest carries a layer.
	transferTimeout = 10 * time.Minute
	shutdownTimeout = 5 * time.Second
)

// Serve answers on listener from the images in dir, which is made when it does not
// exist, until ctx ends. It closes listener.
func Serve(ctx context.Context, listener net.Listener, dir string) error {
	handler, err := New(dir)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       transferTimeout,
		WriteTimeout:      transferTimeout,
		IdleTimeout:       time.Minute,
	}
	var stopping sync.WaitGroup
	stop := context.AfterFunc(ctx, func() {
		defer stopping.Done()
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer cancel()
		if server.Shutdown(patience) != nil {
			_ = server.Close()
		}
	})
	stopping.Add(1)
	err = server.Serve(listener)
	if stop() {
		stopping.Done() // it will not run any more
	}
	stopping.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve registry: %w", err)
}

// Handler answers registry requests.
type Handler struct {
	store  store
	router *mux.Router
}

// New returns a handler on the images in dir, which is made when it does not exist.
func New(dir string) (*Handler, error) {
	h := &Handler{store: store{dir: dir}, router: mux.NewRouter()}
	for _, sub := range []string{h.store.blobs(), h.store.uploads()} {
		if err := os.MkdirAll(sub, 0o750); err != nil {
			return nil, fmt.Errorf("prepare registry directory: %w", err)
		}
	}
	read, name := []string{http.MethodGet, http.MethodHead}, "/v2/{name:"+nameExpression+"}"
	upload := name + "/blobs/uploads/{upload:" + uploadExpression + "}"
	manifest := name + "/manifests/{reference:" + digestExpression + "|" + tagExpression + "}"
	h.router.HandleFunc("/v2/", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }).Methods(read...)
	h.router.HandleFunc(name+"/blobs/uploads/", h.startUpload).Methods(http.MethodPost)
	h.router.HandleFunc(upload, h.appendUpload).Methods(http.MethodPatch)
	h.router.HandleFunc(upload, h.finishUpload).Methods(http.MethodPut)
	h.router.HandleFunc(name+"/blobs/{digest:"+digestExpression+"}", h.readBlob).Methods(read...)
	h.router.HandleFunc(manifest, h.readManifest).Methods(read...)
	h.router.HandleFunc(manifest, h.writeManifest).Methods(http.MethodPut)
	h.router.HandleFunc(name+"/tags/list", h.listTags).Methods(http.MethodGet)
	return h, nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	h.router.ServeHTTP(w, r)
}

// fail writes an error in the protocol's form. What is not the client's fault is
// only named, so that paths of this machine stay here.
func fail(w http.ResponseWriter, err error) {
	var refusal *protocolError
	if !errors.As(err, &refusal) {
		refusal = refuse(http.StatusInternalServerError, "UNKNOWN", "the registry cannot read or write its files")
	}
	type problem struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	answer(w, refusal.status, map[string][]problem{"errors": {{Code: refusal.code, Message: refusal.message}}})
}

// answer writes a JSON answer.
func answer(w http.ResponseWriter, status int, message any) {
	encoded, err := json.Marshal(message)
	if err != nil {
		http.Error(w, "the answer cannot be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(encoded, '\n'))
}

// protocolError is an error that the client is told.
type protocolError struct {
	status        int
	code, message string
}

func (e *protocolError) Error() string { return e.message }

func refuse(status int, code, message string) *protocolError {
	return &protocolError{status: status, code: code, message: message}
}

// store is the directory: blobs/<hex>, uploads/<id>, names/<name>/_tags/<tag>, which
// holds a digest, and names/<name>/_manifests/<hex>, which holds a media type. An
// underscore cannot begin a component of a name.
type store struct{ dir string }

func (s store) blobs() string   { return filepath.Join(s.dir, "blobs") }
func (s store) uploads() string { return filepath.Join(s.dir, "uploads") }

func (s store) blob(digest string) string { return filepath.Join(s.blobs(), hexOf(digest)) }

func (s store) upload(id string) string { return filepath.Join(s.uploads(), id) }

func (s store) tags(name string) string {
	return filepath.Join(s.dir, "names", filepath.FromSlash(name), "_tags")
}

func (s store) manifest(name, digest string) string {
	return filepath.Join(s.dir, "names", filepath.FromSlash(name), "_manifests", hexOf(digest))
}

const digestPrefix = "sha256:"

func hexOf(digest string) string { return strings.TrimPrefix(digest, digestPrefix) }

// isDigest tells digests from tags; it also keeps what a client names from being a
// path.
func isDigest(reference string) bool {
	digits, ok := strings.CutPrefix(reference, digestPrefix)
	return ok && len(digits) == 2*sha256.Size && strings.Trim(digits, "0123456789abcdef") == ""
}
