// SPDX-License-Identifier: Apache-2.0

// Package providertest has a far end for tests of the virtual kubelet: a real
// HTTP server, in this process, with state. It behaves as upstream's API server
// does or, with extensions, as this project's; it records every request, and it
// injects the faults that it is told to.
//
//	far := providertest.Start(t, providertest.Options{Extensions: providertest.All})
//	far.Run(uid)
//	far.Finish(uid, 42)
package providertest
