// SPDX-License-Identifier: Apache-2.0

// Package openstack is the seam to OpenStack: the only package of the OSNode
// controllers that speaks to Keystone, Nova, Neutron, Glance and Cinder.
//
// It knows two identities. The owner's is used for what has to be the owner's own:
// creating servers and looking at key pairs. It is borrowed by an impersonating
// Keystone trust, an application credential, or not at all. The service's own is used
// for everything else, so that machines can be watched and deleted after their owner
// has left.
//
// All calls of one project share a token bucket and a cap of calls in flight. Reads
// and deletions are repeated when OpenStack stumbles; a server is never asked for twice.
// Every error is a *cloud.Error, whose class says what to do, and whose message is fit
// for users.
//
//	seam, err := openstack.New(openstack.Config{Cluster: "caas", Providers: providers})
//	if err != nil {
//		return err
//	}
//	defer seam.Close()
//	listing, err := seam.List(ctx, account, time.Minute)
//
// It may import osnode/api, osnode/cloud and internal packages, nothing that talks to
// Kubernetes.
package openstack
