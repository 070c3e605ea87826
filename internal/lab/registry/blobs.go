// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/gorilla/mux"
)

func (h *Handler) readBlob(w http.ResponseWriter, r *http.Request) {
	digest := mux.Vars(r)["digest"]
	file, err := os.Open(h.store.blob(digest))
	if errors.Is(err, fs.ErrNotExist) {
		err = refuse(http.StatusNotFound, "BLOB_UNKNOWN", "no blob "+digest)
	}
	if err != nil {
		fail(w, err)
		return
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Docker-Content-Digest", digest)
	http.ServeContent(w, r, "", info.ModTime(), file) // answers HEAD and ranges too
}

// startUpload opens an upload, or takes the whole blob when its digest is given.
func (h *Handler) startUpload(w http.ResponseWriter, r *http.Request) {
	id := make([]byte, 16)
	_, _ = rand.Read(id) // never fails
	upload := hex.EncodeToString(id)
	file, err := os.OpenFile(h.store.upload(upload), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		fail(w, err)
		return
	}
	if digest := r.URL.Query().Get("digest"); digest != "" {
		h.complete(w, r, upload, digest)
		return
	}
	h.accepted(w, r, upload, 0)
}

func (h *Handler) appendUpload(w http.ResponseWriter, r *http.Request) {
	upload := mux.Vars(r)["upload"]
	size, err := h.receive(upload, r.Body)
	if err != nil {
		fail(w, err)
		return
	}
	h.accepted(w, r, upload, size)
}

func (h *Handler) finishUpload(w http.ResponseWriter, r *http.Request) {
	h.complete(w, r, mux.Vars(r)["upload"], r.URL.Query().Get("digest"))
}

func (h *Handler) accepted(w http.ResponseWriter, r *http.Request, upload string, size int64) {
	w.Header().Set("Location", "/v2/"+mux.Vars(r)["name"]+"/blobs/uploads/"+upload)
	w.Header().Set("Docker-Upload-Uuid", upload)
	w.Header().Set("Range", "0-"+strconv.FormatInt(max(0, size-1), 10))
	w.WriteHeader(http.StatusAccepted)
}

// complete receives the rest of an upload and makes it a blob.
func (h *Handler) complete(w http.ResponseWriter, r *http.Request, upload, digest string) {
	if !isDigest(digest) {
		fail(w, refuse(http.StatusBadRequest, "DIGEST_INVALID", "want a digest sha256:…"))
		return
	}
	_, err := h.receive(upload, r.Body)
	if err == nil {
		err = h.adopt(upload, digest)
	}
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Location", "/v2/"+mux.Vars(r)["name"]+"/blobs/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
}

// receive appends body to an upload and returns the upload's size.
func (h *Handler) receive(upload string, body io.Reader) (int64, error) {
	file, err := os.OpenFile(h.store.upload(upload), os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, refuse(http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "no such upload")
	}
	if err != nil {
		return 0, fmt.Errorf("open upload: %w", err)
	}
	_, err = io.Copy(file, body)
	info, statErr := file.Stat()
	if err := errors.Join(err, statErr, file.Close()); err != nil {
		return 0, fmt.Errorf("receive upload: %w", err)
	}
	return info.Size(), nil
}

// adopt checks an upload and gives it its final name.
func (h *Handler) adopt(upload, digest string) error {
	path := h.store.upload(upload)
	file, err := os.Open(filepath.Clean(path))
	if err != nil {
		return fmt.Errorf("open upload: %w", err)
	}
	sum := sha256.New()
	_, err = io.Copy(sum, file)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("read upload: %w", err)
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != digest {
		_ = os.Remove(path)
		return refuse(http.StatusBadRequest, "DIGEST_INVALID", "the blob is "+got+", not "+digest)
	}
	if err := os.Rename(path, h.store.blob(digest)); err != nil {
		return fmt.Errorf("store blob: %w", err)
	}
	return nil
}
