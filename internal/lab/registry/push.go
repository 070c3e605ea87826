// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// DialFunc opens a connection, in the form that http.Transport takes.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Push puts image into the registry at address under the name that a pod would pull
// it by: docker.io/library/busybox:1.36 becomes library/busybox:1.36, and a node's
// containerd asks for that. dial, when set, reaches the registry. Layers that the
// registry has are not sent again.
func Push(ctx context.Context, address string, dial DialFunc, image v1.Image, reference string) error {
	target, err := target(address, reference)
	if err != nil {
		return err
	}
	transport := &http.Transport{
		DialContext:           dial,
		ResponseHeaderTimeout: time.Minute,
		IdleConnTimeout:       10 * time.Second,
	}
	defer transport.CloseIdleConnections()
	err = remote.Write(target, image, remote.WithContext(ctx), remote.WithTransport(transport), remote.WithAuth(authn.Anonymous))
	if err != nil {
		return fmt.Errorf("push %s: %w", reference, err)
	}
	return nil
}

// target is where the lab's registry keeps the image called reference.
func target(address, reference string) (name.Tag, error) {
	tag, err := name.NewTag(reference)
	if err != nil {
		return name.Tag{}, fmt.Errorf("image name: %w", err)
	}
	if strings.Contains(reference, "@") {
		return name.Tag{}, fmt.Errorf("image name %q: want a tag, not a digest", reference)
	}
	target, err := name.NewTag(address+"/"+tag.RepositoryStr()+":"+tag.TagStr(), name.Insecure)
	if err != nil {
		return name.Tag{}, fmt.Errorf("image name: %w", err)
	}
	return target, nil
}
