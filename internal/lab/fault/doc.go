// SPDX-License-Identifier: Apache-2.0

// Package fault stands between a caller and whom it calls, and disturbs what passes: nothing of it is looked at, so TLS is
// as good or bad as without. It knows connections, and imports nothing of this repository.
//
//	proxy, err := fault.Start(ctx, fault.Config{Listen: listen, Dial: dial, Seed: 1})
//	…
//	err = proxy.Impose(ctx, fault.Cut)
//	…
//	err = proxy.Impose(ctx, fault.None)
package fault
