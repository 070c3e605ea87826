// SPDX-License-Identifier: Apache-2.0

// Package plugin is the interLink plugin that runs pods of other clusters in a
// Kubernetes cluster, as an ordinary tenant of it. It owns the HTTP side; the parts
// that do the work are request (decoding), translate (what a pod becomes), apply (making it so), watch
// (what became of it), table (what is known) and podstate (how it is told).
//
//	p, err := plugin.New(plugin.Config{Client: client, LogClient: client, Settings: settings, Registry: registry})
//	go p.Run(ctx)
//	http.Handle("/", p.Handler())
package plugin
