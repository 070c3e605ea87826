// SPDX-License-Identifier: Apache-2.0

// Package externalgrpc lets a stock cluster-autoscaler, started with the cloud provider
// "externalgrpc", decide about the size of pools: those of driver "externalgrpc", each
// of whose flavors is a node group. Clients authenticate with a certificate.
//
//	server, err := externalgrpc.New(externalgrpc.Config{Groups: pools, Address: ":8443", TLS: files})
//	…
//	err = server.Start(ctx)
package externalgrpc

//go:generate go run -modfile=../../../go.tools.mod compile.go
