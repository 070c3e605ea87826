// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"

	"github.com/cloudveneto/caas/osnode/cloud"
)

// keyPair is the name under which the session's user has the owner's key pair. Nova
// looks for key pairs under the user who asks, so the owner's identity sees them, and
// the service's own needs a copy.
func (h here) keyPair(ctx context.Context, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	return h.reference(ctx, "key pair", h.account.UserID+"/"+name, func(ctx context.Context) (string, error) {
		client, err := h.to(compute(), h.account.Region)
		if err != nil {
			return "", err
		}
		if h.mode == ModeService {
			return h.copyKeyPair(ctx, client, name)
		}
		_, err = keypairs.Get(ctx, client, name, nil).Extract()
		if gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			return "", refusal(cloud.InvalidSpec, err,
				"There is no key pair %q of the owner; key pairs belong to users, and cannot be another's", name)
		}
		return name, err
	})
}

// copyKeyPair gives the service user the owner's public key. To look at it takes a right
// that administrators have.
func (h here) copyKeyPair(ctx context.Context, client *gophercloud.ServiceClient, name string) (string, error) {
	found, err := keypairs.Get(ctx, client, name, keypairs.GetOpts{UserID: h.account.UserID}).Extract()
	switch code := codeOf(err); {
	case code == http.StatusNotFound:
		return "", refusal(cloud.InvalidSpec, err, "There is no key pair %q of the owner", name)
	case code == http.StatusForbidden:
		return "", refusal(cloud.InvalidSpec, err, "The platform may not use the owner's key pair %q; run kubectl openstack login", name)
	case err != nil:
		return "", err
	}
	digest := sha256.Sum256([]byte(found.PublicKey))
	copied := keypairs.CreateOpts{Name: "osn-" + hex.EncodeToString(digest[:16]), PublicKey: found.PublicKey}
	_, err = keypairs.Create(ctx, client, copied).Extract()
	if err != nil && codeOf(err) != http.StatusConflict {
		return "", explain("copy the key pair \""+name+"\"", err)
	}
	return copied.Name, nil
}
