// SPDX-License-Identifier: Apache-2.0

// Package plan decides which machines to make for pods that wait. It is pure: all that
// it knows is in Input, and the same Input gives the same Result. It knows of
// OpenStack only how much of a quota is left.
//
//	result := plan.Decide(plan.Input{Pods: pods, Nodes: nodes, Groups: groups, Pools: pools, Quotas: quotas})
//	for _, launch := range result.Launches {
//		// one machine of launch.Flavor in launch.Pool, for launch.Pods
//	}
package plan
