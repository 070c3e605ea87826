// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package drills_test

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/stretchr/testify/require"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/lab/openstack"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/controller"
)

// server is one of Nova's.
type server struct {
	ID, Name, Status string
	User             string            `json:"user_id"`
	Metadata         map[string]string `json:"metadata"`
}

// login is a user's session in the drill's project.
func (d *drill) login(user string) *openstack.Session {
	d.t.Helper()
	session, err := d.cloud.Login(d.t.Context(), user, d.project.Name)
	require.NoError(d.t, err)
	return session
}

// servers are those of the drill's project; deleted ones are those that Nova remembers.
func (d *drill) servers(deleted bool) []server {
	d.t.Helper()
	query := "/servers/detail?all_tenants=1&project_id=" + d.project.ID
	if deleted {
		query += "&deleted=true"
	}
	var answer struct{ Servers []server }
	require.NoError(d.t, d.operator.Do(d.t.Context(), http.MethodGet, "compute", query, nil, &answer))
	return answer.Servers
}

func of(servers []server, uid types.UID) []server {
	return slices.DeleteFunc(servers, func(s server) bool { return s.Metadata[osnodev1.MetaUID] != string(uid) })
}

// everMade are all servers that Nova was ever brought to make for an OpenStackNode, also those that are gone. Of these
// Nova has forgotten the metadata, but not the name, which no other of the project's deleted servers has.
func (d *drill) everMade(uid types.UID) []server {
	d.t.Helper()
	return append(of(d.servers(false), uid), d.deleted(uid)...)
}

func (d *drill) deleted(uid types.UID) []server {
	d.t.Helper()
	name := ""
	d.mu.Lock()
	for _, osn := range d.made {
		if osn.UID == uid {
			name = osn.Name
		}
	}
	d.mu.Unlock()
	require.NotEmpty(d.t, name)
	return slices.DeleteFunc(d.servers(true), func(s server) bool { return s.Name != name })
}

// nothingLeft waits until nothing of an OpenStackNode is left in Nova, Neutron and the cluster: Nova shows a server
// that is gone for a moment longer.
func (d *drill) nothingLeft(uid types.UID) {
	d.t.Helper()
	d.eventually("Nova has no server of "+string(uid), func() (bool, string) {
		left := of(d.servers(false), uid)
		return len(left) == 0, fmt.Sprint(left)
	})
	d.nothingInNeutron(uid)
	d.nothingInCluster(uid)
}

func (d *drill) nothingInNeutron(uid types.UID) {
	d.t.Helper()
	var answer struct {
		Ports []struct {
			ID     string
			Device string `json:"device_id"`
		}
	}
	require.NoError(d.t, d.operator.Do(d.t.Context(), http.MethodGet, "network", "/v2.0/ports?project_id="+d.project.ID, nil, &answer))
	gone := d.deleted(uid)
	for _, port := range answer.Ports {
		if slices.ContainsFunc(gone, func(s server) bool { return s.ID == port.Device }) {
			require.Fail(d.t, "a port is left", "%+v", port)
		}
	}
}

func (d *drill) nothingInCluster(uid types.UID) {
	d.t.Helper()
	ctx := d.t.Context()
	d.eventually("the cluster has nothing of "+string(uid), func() (bool, string) {
		var left []string
		nodes := &corev1.NodeList{}
		require.NoError(d.t, d.admin.List(ctx, nodes))
		for i := range nodes.Items {
			if nodes.Items[i].Labels[osnodev1.NodeLabelOSNode] == string(uid) || slices.Contains(d.nodeIDs(uid), nodes.Items[i].Name) {
				left = append(left, "Node "+nodes.Items[i].Name)
			}
		}
		secrets := &corev1.SecretList{}
		require.NoError(d.t, d.admin.List(ctx, secrets, client.InNamespace(metav1.NamespaceSystem),
			client.MatchingLabels{"osn.infn.it/uid": string(uid)}))
		for i := range secrets.Items {
			left = append(left, "Secret "+secrets.Items[i].Name)
		}
		requests := &certificatesv1.CertificateSigningRequestList{}
		require.NoError(d.t, d.admin.List(ctx, requests))
		for i := range requests.Items {
			if slices.Contains(d.identities(uid), requests.Items[i].Spec.Username) {
				left = append(left, "CertificateSigningRequest "+requests.Items[i].Name+" of "+requests.Items[i].Spec.Username)
			}
		}
		return len(left) == 0, fmt.Sprint(left)
	})
}

// nodeIDs are all names that the Node of an OpenStackNode has had.
func (d *drill) nodeIDs(uid types.UID) []string {
	var all []string
	for _, moment := range d.history.of(uid) {
		if moment.NodeID != "" && !slices.Contains(all, moment.NodeID) {
			all = append(all, moment.NodeID)
		}
	}
	return all
}

// identities are those with which its machine may have asked for certificates.
func (d *drill) identities(uid types.UID) []string {
	all := []string{"system:bootstrap:" + controller.TokenID(uid, 0)}
	for _, id := range d.nodeIDs(uid) {
		all = append(all, "system:node:"+id)
	}
	return all
}

// act does something to a server as its owner, or an administrator, does it.
func (d *drill) act(session *openstack.Session, id string, action object) {
	d.t.Helper()
	require.NoError(d.t, session.Do(d.t.Context(), http.MethodPost, "compute", "/servers/"+id+"/action", action, nil))
}

// byHand makes a server as a user does without the platform.
func (d *drill) byHand(session *openstack.Session, in openstack.Project, name string, metadata map[string]string) string {
	d.t.Helper()
	find := func(service, path, name string) string {
		var answer struct{ Flavors, Images []struct{ ID, Name string } }
		require.NoError(d.t, session.Do(d.t.Context(), http.MethodGet, service, path, nil, &answer))
		for _, one := range append(answer.Flavors, answer.Images...) {
			if one.Name == name {
				return one.ID
			}
		}
		require.Fail(d.t, "there is none", "%s at %s", name, path)
		return ""
	}
	if metadata == nil {
		metadata = map[string]string{}
	}
	var made struct{ Server struct{ ID string } }
	require.NoError(d.t, session.Do(d.t.Context(), http.MethodPost, "compute", "/servers", object{"server": object{
		"name": name, "flavorRef": find("compute", "/flavors", flavor),
		"imageRef": find("image", "/v2/images", openstack.ImageAlmaLinux),
		"networks": []object{{"uuid": in.NetworkID}}, "metadata": metadata,
	}}, &made))
	return made.Server.ID
}

// there tells whether a server is in Nova, whoever made it and wherever.
func (d *drill) there(id string) bool {
	d.t.Helper()
	err := d.operator.Do(d.t.Context(), http.MethodGet, "compute", "/servers/"+id, nil, nil)
	if openstack.StatusOf(err) == http.StatusNotFound {
		return false
	}
	require.NoError(d.t, err)
	return true
}

// discard removes a server that the platform does not.
func (d *drill) discard(ids ...string) {
	d.t.Helper()
	for _, id := range ids {
		err := d.operator.Do(d.t.Context(), http.MethodDelete, "compute", "/servers/"+id, nil, nil)
		if openstack.StatusOf(err) != http.StatusNotFound {
			require.NoError(d.t, err)
		}
	}
	d.eventually("servers made by hand are gone", func() (bool, string) {
		return !slices.ContainsFunc(ids, d.there), fmt.Sprint(ids)
	})
}
