// SPDX-License-Identifier: Apache-2.0

// Package api is the interLink API server: it authenticates virtual kubelets,
// bounds what they send, and forwards it to one plugin. It holds no Kubernetes
// rights and keeps nothing but a bounded cache of pod statuses.
//
// Towards both sides it behaves as upstream interLink 0.5 to 0.6.2 does, so that
// either side may be upstream's; see docs/reference/protocol.md. Pods, ConfigMaps
// and Secrets pass through as the JSON that came: a field that this program does
// not know reaches the plugin all the same.
//
// It imports internal/interlink, internal/httpserver and internal/logging.
package api
