// SPDX-License-Identifier: Apache-2.0

// Package openstacktest has what tests of the OpenStack seam need.
//
// Fake is a stateful OpenStack behind a real HTTP server: Keystone with trusts and
// application credentials, Nova, Neutron, Glance, and the little of Cinder that is
// used. It is fast enough for tens of thousands of servers.
//
//	fake, err := openstacktest.Start(openstacktest.Options{})
//	lab := fake.Populate()
//	defer fake.Close()
//
// Faults puts troubles in front of the fake, or of real services, and records the
// calls; Proxy starts it in front of a whole cloud by rewriting its service catalog.
//
// Conformance holds the fake and the real services to the same behaviour.
package openstacktest
