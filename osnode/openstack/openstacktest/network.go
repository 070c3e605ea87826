// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/uuid"
)

type network struct {
	id, name, project string
	shared            bool
	subnet            netip.Prefix
	last              netip.Addr
	free              []netip.Addr
}

type port struct {
	id, network, project, device, mac string
	ip                                netip.Addr
	groups                            []string
}

type group struct {
	id, name, description, project string
	rules                          []object
}

func (f *Fake) networkRoutes(mux *http.ServeMux) {
	const base = "/network/v2.0/"
	mux.HandleFunc("GET "+base+"networks", f.scoped(f.listNetworks))
	mux.HandleFunc("POST "+base+"networks", f.scoped(f.createNetwork))
	mux.HandleFunc("DELETE "+base+"networks/{id}", f.scoped(f.deleteNetwork))
	mux.HandleFunc("POST "+base+"subnets", f.scoped(f.createSubnet))
	mux.HandleFunc("GET "+base+"ports", f.scoped(f.listPorts))
	mux.HandleFunc("DELETE "+base+"ports/{id}", f.scoped(f.deletePort))
	mux.HandleFunc("GET "+base+"security-groups", f.scoped(f.listGroups))
	mux.HandleFunc("POST "+base+"security-groups", f.scoped(f.createGroup))
	mux.HandleFunc("DELETE "+base+"security-groups/{id}", f.scoped(f.deleteGroup))
	mux.HandleFunc("POST "+base+"security-group-rules", f.scoped(f.createRule))
}

// mine tells whether a thing is the caller's to see.
func mine(c call, project string) bool { return project == c.in.id || c.by.admin() }

// matches tells whether the filters of a list let a thing through.
func matches(r *http.Request, fields map[string]string) bool {
	query := r.URL.Query()
	for key, value := range fields {
		if query.Has(key) && query.Get(key) != value {
			return false
		}
	}
	return true
}

func describeNetwork(one *network) object {
	return object{
		"id": one.id, "name": one.name, "tenant_id": one.project, "project_id": one.project, "status": "ACTIVE",
		"shared": one.shared, "admin_state_up": true, "subnets": []string{},
	}
}

func (f *Fake) listNetworks(w http.ResponseWriter, r *http.Request, c call) {
	found := []object{}
	for _, one := range f.networks {
		if (one.shared || mine(c, one.project)) && matches(r, map[string]string{"id": one.id, "name": one.name, "project_id": one.project}) {
			found = append(found, describeNetwork(one))
		}
	}
	reply(w, http.StatusOK, object{"networks": found})
}

func (f *Fake) createNetwork(w http.ResponseWriter, r *http.Request, c call) {
	var request struct{ Name string }
	if !read(r, "network", &request) {
		neutronError(w, http.StatusBadRequest, "HTTPBadRequest", "Unable to find 'network' in request body")
		return
	}
	made := &network{id: uuid.NewString(), name: request.Name, project: c.in.id}
	f.networks[made.id] = made
	reply(w, http.StatusCreated, object{"network": describeNetwork(made)})
}

func (f *Fake) deleteNetwork(w http.ResponseWriter, r *http.Request, c call) {
	one := f.networks[r.PathValue("id")]
	switch {
	case one == nil || !mine(c, one.project):
		neutronError(w, http.StatusNotFound, "NetworkNotFound", "Network "+r.PathValue("id")+" could not be found.")
	case f.inUse(one.id):
		neutronError(w, http.StatusConflict, "NetworkInUse", "Unable to complete operation on network "+one.id+".")
	default:
		delete(f.networks, one.id)
		reply(w, http.StatusNoContent, nil)
	}
}

func (f *Fake) inUse(network string) bool {
	for _, one := range f.ports {
		if one.network == network {
			return true
		}
	}
	return false
}

func (f *Fake) createSubnet(w http.ResponseWriter, r *http.Request, c call) {
	var request struct {
		Network string `json:"network_id"`
		CIDR    string `json:"cidr"`
	}
	if !read(r, "subnet", &request) || f.networks[request.Network] == nil || !mine(c, f.networks[request.Network].project) {
		neutronError(w, http.StatusNotFound, "NetworkNotFound", "Network "+request.Network+" could not be found.")
		return
	}
	prefix, err := netip.ParsePrefix(request.CIDR)
	if err != nil {
		neutronError(w, http.StatusBadRequest, "HTTPBadRequest", "Invalid input for cidr.")
		return
	}
	f.networks[request.Network].number(prefix)
	reply(w, http.StatusCreated, object{"subnet": object{
		"id": uuid.NewString(), "network_id": request.Network, "cidr": request.CIDR, "ip_version": 4,
	}})
}

// number gives the network its addresses; the first ten are kept back.
func (n *network) number(prefix netip.Prefix) {
	n.subnet, n.last = prefix.Masked(), prefix.Masked().Addr()
	for range 9 {
		n.last = n.last.Next()
	}
}

func (n *network) address() netip.Addr {
	if len(n.free) > 0 {
		ip := n.free[0]
		n.free = n.free[1:]
		return ip
	}
	if n.last.IsValid() {
		n.last = n.last.Next()
	}
	return n.last
}

// newPort is a port that Nova makes for a server.
func (f *Fake) newPort(on *network, project, device string, groups []string) *port {
	made := &port{id: uuid.NewString(), network: on.id, project: project, device: device, ip: on.address(), groups: groups}
	made.mac = fmt.Sprintf("fa:16:3e:%s:%s:%s", made.id[0:2], made.id[2:4], made.id[4:6])
	f.ports[made.id] = made
	return made
}

func (f *Fake) releasePort(one *port) {
	if f.ports[one.id] == nil {
		return
	}
	delete(f.ports, one.id)
	if on := f.networks[one.network]; on != nil && one.ip.IsValid() {
		on.free = append(on.free, one.ip)
	}
}

func (f *Fake) listPorts(w http.ResponseWriter, r *http.Request, c call) {
	found := []object{}
	for _, one := range f.ports {
		if !mine(c, one.project) || !matches(r, map[string]string{
			"device_id": one.device, "network_id": one.network, "project_id": one.project, "tenant_id": one.project,
		}) {
			continue
		}
		found = append(found, object{
			"id": one.id, "network_id": one.network, "tenant_id": one.project, "project_id": one.project,
			"device_id": one.device, "device_owner": "compute:nova", "mac_address": one.mac, "status": "ACTIVE",
			"fixed_ips": []object{{"ip_address": one.ip.String()}}, "security_groups": emptied(one.groups),
		})
	}
	reply(w, http.StatusOK, object{"ports": found})
}

func (f *Fake) deletePort(w http.ResponseWriter, r *http.Request, c call) {
	one := f.ports[r.PathValue("id")]
	if one == nil || !mine(c, one.project) {
		neutronError(w, http.StatusNotFound, "PortNotFound", "Port "+r.PathValue("id")+" could not be found.")
		return
	}
	f.releasePort(one)
	reply(w, http.StatusNoContent, nil)
}

func (f *Fake) newGroup(project, name, description string) *group {
	made := &group{id: uuid.NewString(), name: name, description: description, project: project, rules: []object{}}
	f.groups[made.id] = made
	return made
}

func describeGroup(one *group) object {
	return object{
		"id": one.id, "name": one.name, "description": one.description, "tenant_id": one.project,
		"project_id": one.project, "security_group_rules": one.rules, "stateful": true, "tags": []string{},
	}
}

func (f *Fake) listGroups(w http.ResponseWriter, r *http.Request, c call) {
	found := []object{}
	for _, one := range f.groups {
		if mine(c, one.project) && matches(r, map[string]string{
			"id": one.id, "name": one.name, "project_id": one.project, "tenant_id": one.project,
		}) {
			found = append(found, describeGroup(one))
		}
	}
	reply(w, http.StatusOK, object{"security_groups": found})
}

func (f *Fake) createGroup(w http.ResponseWriter, r *http.Request, c call) {
	var request struct{ Name, Description string }
	if !read(r, "security_group", &request) {
		neutronError(w, http.StatusBadRequest, "HTTPBadRequest", "Unable to find 'security_group' in request body")
		return
	}
	reply(w, http.StatusCreated, object{"security_group": describeGroup(f.newGroup(c.in.id, request.Name, request.Description))})
}

func (f *Fake) deleteGroup(w http.ResponseWriter, r *http.Request, c call) {
	one := f.groups[r.PathValue("id")]
	if one == nil || !mine(c, one.project) {
		neutronError(w, http.StatusNotFound, "SecurityGroupNotFound", "Security group "+r.PathValue("id")+" does not exist")
		return
	}
	delete(f.groups, one.id)
	reply(w, http.StatusNoContent, nil)
}

func (f *Fake) createRule(w http.ResponseWriter, r *http.Request, c call) {
	var rule object
	if !read(r, "security_group_rule", &rule) {
		neutronError(w, http.StatusBadRequest, "HTTPBadRequest", "Unable to find 'security_group_rule' in request body")
		return
	}
	id, _ := rule["security_group_id"].(string)
	in := f.groups[id]
	if in == nil || !mine(c, in.project) {
		neutronError(w, http.StatusNotFound, "SecurityGroupNotFound", "Security group "+id+" does not exist")
		return
	}
	signature := ruleKey(rule)
	if slices.ContainsFunc(in.rules, func(has object) bool { return ruleKey(has) == signature }) {
		neutronError(w, http.StatusConflict, "SecurityGroupRuleExists", "Security group rule already exists.")
		return
	}
	rule["id"] = uuid.NewString()
	in.rules = append(in.rules, rule)
	reply(w, http.StatusCreated, object{"security_group_rule": rule})
}

func ruleKey(rule object) string {
	var key strings.Builder
	for _, field := range []string{"direction", "ethertype", "protocol", "port_range_min", "port_range_max", "remote_ip_prefix", "remote_group_id"} {
		fmt.Fprintf(&key, "%v/", rule[field])
	}
	return key.String()
}
