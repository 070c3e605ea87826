// SPDX-License-Identifier: Apache-2.0

// Package openstack runs a real OpenStack on one machine: Keystone, Placement, Glance, Neutron and Nova from Debian's
// packages, in a network namespace of the lab, on SQLite, with no message broker, no agents and no init system. It also
// knows the users, projects, flavors and images that the lab's OpenStack has.
//
//	site, err := openstack.Start(ctx, openstack.Config{Dir: dir, NetNS: "/run/netns/lan", HypervisorSocket: socket})
//	…
//	site, err = openstack.Open(dir) // from another process, later
//	session, err := site.Login(ctx, openstack.Zangrand, openstack.CMS)
//	err = site.Stop(ctx)
//
// What a server becomes is not this package's business. With the driver Hook, Nova asks a hypervisor behind a Unix
// socket, in JSON:
//
//	POST /v1/servers/UUID/{spawn,destroy,power_on,power_off,reboot}    GET /v1/servers/UUID/console
//
// The body says everything Nova knows of the server: uuid, name, hostname, host, project_id, user_id, flavor (name,
// vcpus, ram, disk, ephemeral), image, key_name, key_data, metadata, user_data in base64, and nics with port_id, mac,
// network, network_id, ips with their prefix lengths, and gateway. A spawn that is refused puts the server in ERROR with
// the answer's text; one refused with 503 is tried on another compute first. With the driver Libvirt servers are virtual
// machines, emulated.
//
// The platform's service user, osnode-controller, has the role member in every project, because that is what Nova's
// policies ask of who lists and deletes a project's servers, and the role osnode, which means nothing to OpenStack and
// tells in which projects the platform works.
package openstack
