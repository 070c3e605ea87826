// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"

	"github.com/cloudveneto/caas/multitenancy/tenant"
	"github.com/cloudveneto/caas/sidecar/plugin"
)

// Again is the transport that sends a request a second time, for tests.
func Again(next http.RoundTripper) http.RoundTripper { return again{next} }

// Restricted are the settings of a sidecar that found out who it is.
func Restricted(settings plugin.Settings, identity tenant.Identity) plugin.Settings {
	f := &file{Settings: settings}
	f.restrictTo(identity)
	return f.Settings
}
