// SPDX-License-Identifier: Apache-2.0

// Package httpserver owns how this project's programs serve HTTP: addresses and
// unix sockets, TLS with certificates that are reloaded, timeouts, body limits,
// graceful shutdown, metrics, and the operations port with health and metrics.
//
// A server answers any number of routes; what a route does is the caller's:
//
//	server, err := httpserver.New(httpserver.Config{Name: "api", Address: ":3000", Handler: router})
//	if err != nil {
//		return err
//	}
//	return server.Run(ctx)
//
// It imports internal/logging only.
package httpserver
