// SPDX-License-Identifier: Apache-2.0

// Package kubeletport serves the part of the kubelet API that the API server and
// monitoring call on a node: container logs, connections into pods (exec, attach,
// port-forward) and the lists of pods. Everyone is
// authenticated by client certificate or TokenReview and authorized by
// SubjectAccessReview, as on a real node; there is no anonymous access.
//
// The serving certificate comes from files, from a CertificateSigningRequest
// that is renewed before it expires, or is self-signed.
package kubeletport
