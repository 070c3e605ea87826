// SPDX-License-Identifier: Apache-2.0

// Package csr decides about the certificates that the machines of OpenStackNodes ask
// for, and makes their Nodes. Kubernetes only looks at the shape of such a request; this
// package knows which token belongs to which node, and which addresses Nova gave to it.
//
// Decide is the whole decision and pure: a Request, as Read finds it, and the Facts about
// it make a Verdict. Approver is the reconciler around it.
//
// What it decides about:
//
//   - client certificates that are asked for with a bootstrap token of an OpenStackNode.
//     One token is good for one certificate of one name. The Node is made before the
//     certificate, with its taints and protected labels.
//   - serving certificates that the nodes ask for later, at first and to renew them.
//
// Requests by others are left alone: those of other machines and of kubeadm's tokens, and
// the renewals of client certificates, which Kubernetes itself approves for the identity
// that asks. Whatever is ours and not right is denied, with an Event on the OpenStackNode.
package csr
