// SPDX-License-Identifier: Apache-2.0

// Package bundle collects everything that a pod references at the origin into
// the one request that creates it at the far end: ConfigMaps, Secrets, the
// contents of projected and downwardAPI volumes, tokens, and, for far ends that
// cannot resolve it themselves, the environment.
//
//	request, err := collector.Collect(ctx, pod, bundle.Options{References: true})
//
// Objects are read one by one, on demand, and kept for a few seconds: a hundred
// pods that share a ConfigMap cost one read. Nothing else is cached, and only
// what the node's pods reference is read, as the Node authorizer demands.
//
// A MissingError is a reason to wait, a RefusedError one to give up. No error
// and no log line carries the content of any object.
package bundle
