// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Flavor is a kind of machine that every site has.
type Flavor struct {
	Name                                    string
	VCPUs, MemoryMiB, DiskGiB, EphemeralGiB int
	// GPUs is how many devices with the alias a100 it has.
	GPUs int
}

// Flavors are CloudVeneto's, and small ones for tests.
func Flavors() []Flavor {
	return []Flavor{
		{Name: "cloudveneto.medium", VCPUs: 2, MemoryMiB: 4 << 10, DiskGiB: 25},
		{Name: "cloudveneto.large", VCPUs: 4, MemoryMiB: 8 << 10, DiskGiB: 25},
		{Name: "cloudveneto.50cores249GB25GB+500GB1A", VCPUs: 50, MemoryMiB: 249 << 10, DiskGiB: 25, EphemeralGiB: 500, GPUs: 1},
		{Name: "lab.tiny", VCPUs: 1, MemoryMiB: 512, DiskGiB: 3},
		{Name: "lab.small", VCPUs: 1, MemoryMiB: 1 << 10, DiskGiB: 5},
		{Name: "lab.node", VCPUs: 2, MemoryMiB: 1536, DiskGiB: 5},
		{Name: "lab.node+ephemeral", VCPUs: 2, MemoryMiB: 1536, DiskGiB: 5, EphemeralGiB: 2},
		{Name: "lab.gpu", VCPUs: 2, MemoryMiB: 2 << 10, DiskGiB: 5, GPUs: 1},
		{Name: "lab.giant", VCPUs: 100_000, MemoryMiB: 1 << 20, DiskGiB: 5},
	}
}

func makeFlavors(ctx context.Context, admin *Session) error {
	for _, flavor := range Flavors() {
		id, err := admin.ensure(ctx, "compute", "/flavors", "?is_public=None", "flavors", "flavor", object{
			"name": flavor.Name, "vcpus": flavor.VCPUs, "ram": flavor.MemoryMiB, "disk": flavor.DiskGiB,
			"OS-FLV-EXT-DATA:ephemeral": flavor.EphemeralGiB,
		})
		if err != nil {
			return err
		}
		if flavor.GPUs == 0 {
			continue
		}
		specs := object{"pci_passthrough:alias": fmt.Sprintf("a100:%d", flavor.GPUs)}
		if err := admin.Do(ctx, http.MethodPost, "compute", "/flavors/"+id+"/os-extra_specs", object{"extra_specs": specs}, nil); err != nil {
			return fmt.Errorf("flavor %s: %w", flavor.Name, err)
		}
	}
	return nil
}

// KeyFile is the private key of a user's key pair, in OpenSSH's format; the public key is beside it, with the suffix .pub.
func (s *Site) KeyFile(user, name string) string { return s.cfg.path("ssh", user, name) }

// AddKeyPair makes a key pair for a user, who MUST be a member of the project, or gives Nova the one that is there.
func (s *Site) AddKeyPair(ctx context.Context, user, project, name string) error {
	if strings.ContainsAny(name, "/\x00") || strings.HasPrefix(name, ".") {
		return fmt.Errorf("key pair's name %q is not a plain file name", name)
	}
	session, err := s.Login(ctx, user, project)
	if err != nil {
		return err
	}
	err = session.Do(ctx, http.MethodGet, "compute", "/os-keypairs/"+url.PathEscape(name), nil, nil)
	if err == nil || StatusOf(err) != http.StatusNotFound {
		return err
	}
	public, err := ensureKey(s.KeyFile(user, name), user)
	if err != nil {
		return err
	}
	return session.Do(ctx, http.MethodPost, "compute", "/os-keypairs", object{"keypair": object{"name": name, "type": "ssh", "public_key": public}}, nil)
}

// ensureKey returns the public key of the private one at path, which it makes if there is none.
func ensureKey(path, comment string) (public string, err error) {
	data, err := os.ReadFile(filepath.Clean(path + ".pub"))
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return strings.TrimSpace(string(data)), err
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	block, err := ssh.MarshalPrivateKey(private, comment)
	if err != nil {
		return "", err
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		return "", err
	}
	public = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " " + comment
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	if err := writeWhole(path, pem.EncodeToMemory(block)); err != nil {
		return "", err
	}
	return public, writeWhole(path+".pub", []byte(public+"\n"))
}
