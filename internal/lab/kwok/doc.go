// SPDX-License-Identifier: Apache-2.0

// Package kwok gives a control plane fake nodes, on which pods seem to run: for measuring and testing at sizes that real
// nodes would not bear on one machine. Behind it is KWOK (https://kwok.sigs.k8s.io) with the stages of this package.
//
//	fake, err := kwok.Start(ctx, kwok.Config{Client: client, Kubeconfig: path, Dir: dir, Nodes: 10})
//	…
//	err = fake.Stop(ctx)
//
// A pod runs as soon as it is bound. It ends well when a Job owns it, or after the time that its annotation
// lab.caas/run-for names. A deleted pod is gone at once. Node conditions reach the taints only through a
// controller-manager.
package kwok
