// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Requirement is a file that the services need and the Debian package that has it.
type Requirement struct {
	Package string
	// Files are where the file may be; one is enough.
	Files []string
}

// Requirements are all files of this machine that a site with the driver uses.
func Requirements(driver Driver) []Requirement {
	program := func(pkg, name string) Requirement {
		return Requirement{Package: pkg, Files: []string{"/usr/bin/" + name, "/usr/sbin/" + name}}
	}
	all := []Requirement{
		program("python3-keystone", "keystone-manage"),
		program("uwsgi-core", "uwsgi-core"),
		{Package: "uwsgi-plugin-python3", Files: []string{"/usr/lib/uwsgi/plugins/python3_plugin.so", "/usr/lib/uwsgi/plugins/python311_plugin.so"}},
		program("util-linux", "nsenter"),
	}
	if driver == Identity {
		return all
	}
	all = append(all,
		program("python3-placement", "placement-manage"),
		program("glance-api", "glance-api"),
		Requirement{Package: "glance-common", Files: []string{"/etc/glance/glance-api-paste.ini"}},
		program("nova-common", "nova-manage"),
		Requirement{Package: "nova-common", Files: []string{"/etc/nova/api-paste.ini"}},
		program("neutron-common", "neutron-server"),
		Requirement{Package: "neutron-common", Files: []string{"/etc/neutron/api-paste.ini"}},
	)
	if driver == Libvirt {
		all = append(all,
			program("libvirt-daemon-system", "libvirtd"),
			program("qemu-system-x86", "qemu-system-x86_64"),
			program("qemu-utils", "qemu-img"),
			program("genisoimage", "genisoimage"),
			Requirement{Package: "python3-libvirt", Files: []string{"/usr/lib/python3/dist-packages/libvirt.py"}},
		)
	}
	return all
}

// ErrMissing is what Missing's error is.
var ErrMissing = errors.New("missing packages")

// Missing names the packages that a site with the driver lacks on this machine.
func Missing(driver Driver) error {
	var missing []string
	for _, requirement := range Requirements(driver) {
		if !slices.ContainsFunc(requirement.Files, exists) && !slices.Contains(missing, requirement.Package) {
			missing = append(missing, requirement.Package)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%w: %s", ErrMissing, strings.Join(missing, " "))
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
