// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/cloudveneto/caas/provider"
	"github.com/cloudveneto/caas/provider/kubeletport"
)

// Streams is how the program connects the kubelet port and the provider.
func Streams(pods *provider.Provider) kubeletport.Streams { return streams{pods} }
