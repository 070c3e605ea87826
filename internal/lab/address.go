// SPDX-License-Identifier: Apache-2.0

package lab

// DNS returns the address of the cluster's DNS server, which processes in the LAN and the pods of both clusters reach.
func (c *Cluster) DNS() string { return c.plan.dns.String() }

// PodCIDR is where the addresses of the cluster's pods are.
func (c *Cluster) PodCIDR() string { return c.plan.podCIDR.String() }
