// SPDX-License-Identifier: Apache-2.0

// Package virtualnode owns the Node object: it registers the virtual node, keeps
// its lease, and shows in its status what the far end is and has.
//
//	node, err := virtualnode.New(virtualnode.Config{Client: client, Far: farEnd, Name: "far-away"})
//	…
//	err = node.Run(ctx)
//
// The node is Ready after the first ping that the far end answers, and stays so
// until several in a row fail. The lease is renewed whatever the far end does:
// it says that this process lives.
//
// It works with a node's identity, which the NodeRestriction admission plugin
// keeps from setting some labels and from changing taints, as well as with a
// ServiceAccount that has rights on nodes.
package virtualnode
