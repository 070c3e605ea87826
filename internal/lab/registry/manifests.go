// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/gorilla/mux"
)

func (h *Handler) readManifest(w http.ResponseWriter, r *http.Request) {
	name := mux.Vars(r)["name"]
	digest, err := h.resolve(name, mux.Vars(r)["reference"])
	if err != nil {
		fail(w, err)
		return
	}
	mediaType, err := os.ReadFile(h.store.manifest(name, digest))
	if errors.Is(err, fs.ErrNotExist) {
		err = manifestUnknown(name, digest)
	}
	if err != nil {
		fail(w, err)
		return
	}
	content, err := os.ReadFile(h.store.blob(digest))
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", string(mediaType))
	w.Header().Set("Content-Length", strconv.Itoa(len(content)))
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(content)
	}
}

// resolve turns a tag into a digest.
func (h *Handler) resolve(name, reference string) (string, error) {
	if isDigest(reference) {
		return reference, nil
	}
	content, err := os.ReadFile(filepath.Clean(filepath.Join(h.store.tags(name), reference)))
	if errors.Is(err, fs.ErrNotExist) {
		return "", manifestUnknown(name, reference)
	}
	if err != nil {
		return "", fmt.Errorf("read tag: %w", err)
	}
	if !isDigest(string(content)) {
		return "", fmt.Errorf("tag %s of %s holds no digest", reference, name)
	}
	return string(content), nil
}

func manifestUnknown(name, reference string) *protocolError {
	return refuse(http.StatusNotFound, "MANIFEST_UNKNOWN", "no manifest "+reference+" in "+name)
}

func (h *Handler) writeManifest(w http.ResponseWriter, r *http.Request) {
	name, reference := mux.Vars(r)["name"], mux.Vars(r)["reference"]
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxManifest))
	if err != nil {
		fail(w, refuse(http.StatusBadRequest, "MANIFEST_INVALID", "the manifest cannot be read or is too long"))
		return
	}
	sum := sha256.Sum256(content)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	if isDigest(reference) && reference != digest {
		fail(w, refuse(http.StatusBadRequest, "DIGEST_INVALID", "the manifest is "+digest+", not "+reference))
		return
	}
	err = h.check(content)
	if err == nil {
		err = h.keep(name, reference, digest, r.Header.Get("Content-Type"), content)
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Location", "/v2/"+name+"/manifests/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
}

// check refuses a manifest that is not JSON or refers to blobs that are not here.
func (h *Handler) check(content []byte) error {
	type descriptor struct {
		Digest string   `json:"digest"`
		URLs   []string `json:"urls"`
	}
	var manifest struct {
		Config    *descriptor  `json:"config"`
		Layers    []descriptor `json:"layers"`
		Manifests []descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(content, &manifest); err != nil {
		return refuse(http.StatusBadRequest, "MANIFEST_INVALID", "the manifest is not JSON")
	}
	parts := slices.Concat(manifest.Layers, manifest.Manifests)
	if manifest.Config != nil {
		parts = append(parts, *manifest.Config)
	}
	for _, part := range parts {
		if !isDigest(part.Digest) {
			return refuse(http.StatusBadRequest, "MANIFEST_INVALID", "the manifest refers to "+strconv.Quote(part.Digest))
		}
		if _, err := os.Stat(h.store.blob(part.Digest)); err != nil && len(part.URLs) == 0 {
			return refuse(http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "no blob "+part.Digest)
		}
	}
	return nil
}

// keep stores a manifest as a blob, with its media type under the name, and the tag.
// The tag comes last, so that what it leads to is whole.
func (h *Handler) keep(name, reference, digest, mediaType string, content []byte) error {
	if err := replaceFile(h.store.blob(digest), content); err != nil {
		return err
	}
	if err := replaceFile(h.store.manifest(name, digest), []byte(mediaType)); err != nil {
		return err
	}
	if isDigest(reference) {
		return nil
	}
	return replaceFile(filepath.Join(h.store.tags(name), reference), []byte(digest))
}

func (h *Handler) listTags(w http.ResponseWriter, r *http.Request) {
	name := mux.Vars(r)["name"]
	entries, err := os.ReadDir(h.store.tags(name))
	if errors.Is(err, fs.ErrNotExist) {
		err = refuse(http.StatusNotFound, "NAME_UNKNOWN", "no image "+name)
	}
	if err != nil {
		fail(w, err)
		return
	}
	tags := make([]string, 0, len(entries))
	for _, entry := range entries {
		if entry.Type().IsRegular() && entry.Name()[0] != '.' {
			tags = append(tags, entry.Name())
		}
	}
	answer(w, http.StatusOK, struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{name, tags})
}

// replaceFile writes a file so that a reader sees the old or the new content.
func replaceFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("store manifest: %w", err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(path), ".new-")
	if err != nil {
		return fmt.Errorf("store manifest: %w", err)
	}
	defer func() { _ = os.Remove(temporary.Name()) }() //nolint:gosec // made just now; gone after the rename
	_, err = temporary.Write(content)
	if err := errors.Join(err, temporary.Close()); err != nil {
		return fmt.Errorf("store manifest: %w", err)
	}
	if err := os.Rename(temporary.Name(), path); err != nil { //nolint:gosec // the store checks names before they are paths
		return fmt.Errorf("store manifest: %w", err)
	}
	return nil
}
