// SPDX-License-Identifier: Apache-2.0

package hypervisor

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/google/uuid"
)

// Server is what Nova tells of a server.
type Server struct {
	UUID     string `json:"uuid"`
	Name     string `json:"name"`
	Hostname string `json:"hostname"`
	// Host is the compute host that Nova placed the server on.
	Host      string            `json:"host,omitempty"`
	ProjectID string            `json:"project_id"`
	UserID    string            `json:"user_id"`
	Flavor    Flavor            `json:"flavor"`
	Image     string            `json:"image"`
	KeyName   string            `json:"key_name"`
	KeyData   string            `json:"key_data"`
	Metadata  map[string]string `json:"metadata"`
	// UserData is exactly what was given to Nova.
	UserData []byte `json:"user_data"`
	NICs     []NIC  `json:"nics"`
}

// Flavor is a server's size: RAM in MiB, disks in GiB.
type Flavor struct {
	Name      string `json:"name"`
	VCPUs     int    `json:"vcpus"`
	RAM       int    `json:"ram"`
	Disk      int    `json:"disk"`
	Ephemeral int    `json:"ephemeral"`
}

// NIC is a network interface as Neutron gave it.
type NIC struct {
	MAC     string         `json:"mac"`
	IPs     []netip.Prefix `json:"ips"`
	Gateway string         `json:"gateway"`
	Network string         `json:"network"`
}

// LogValue keeps the user data, which holds credentials, out of logs.
func (s Server) LogValue() slog.Value {
	return slog.GroupValue(slog.String("uuid", s.UUID), slog.String("name", s.Name))
}

// Address is the first IPv4 address of the server, with its network's length.
func (s Server) Address() (netip.Prefix, error) {
	for _, nic := range s.NICs {
		for _, address := range nic.IPs {
			if address.Addr().Is4() {
				return address, nil
			}
		}
	}
	return netip.Prefix{}, fmt.Errorf("server %s has no IPv4 address", s.UUID)
}

// checkUUID keeps what is used as the name of directories and namespaces a UUID.
func checkUUID(id string) error {
	parsed, err := uuid.Parse(id)
	if err != nil || parsed.String() != id {
		return fmt.Errorf("%q: %w", id, errNotUUID)
	}
	return nil
}

var errNotUUID = errors.New("not a UUID")
