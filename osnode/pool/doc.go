// SPDX-License-Identifier: Apache-2.0

// Package pool keeps OpenStackNodePools: it makes and removes their OpenStackNodes, and
// lets the pools of driver "builtin" follow the pods that wait. What a node is made of is
// not its business: it makes OpenStackNodes like a user would, and their own controller
// does the rest. It never talks to OpenStack but to ask for flavors and quotas.
//
// There are two loops. The Reconciler brings a pool to spec.replicas, replaces old nodes,
// and removes those without pods. The Scaler looks at all pods that wait, decides by
// package plan, and raises spec.replicas. Both change a pool only while they hold it, and
// decide what to make or remove by a list that they have asked the API server for, not
// the cache: nothing is made twice.
//
//	pools, err := pool.New(pool.Config{Client: mgr.GetClient(), Reader: mgr.GetAPIReader(), …})
//	…
//	err = pools.SetupWithManager(ctx, mgr)
package pool
