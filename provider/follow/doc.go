// SPDX-License-Identifier: Apache-2.0

// Package follow knows the current versions of the ConfigMaps and Secrets that pods
// reference, and tells when they change.
//
// Each object has one watch, however many pods reference it: by name, and for metadata
// only. That is what the Node authorizer allows a node, as opposed to lists. It costs
// nothing while nothing changes, and no content is ever read or kept here.
//
//	follower.Refer(pod.UID, bundle.References(pod))
//	version, known := follower.Version(reference)
//
// An object is followed while any pod refers to it.
package follow
