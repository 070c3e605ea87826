// SPDX-License-Identifier: Apache-2.0

// Package usage counts what the virtual machines of OpenStackNodes consume: hours of
// virtual CPUs, of memory, of GPUs and of nodes, per namespace, project, owner and flavor,
// as Prometheus counters.
//
// A machine counts from the time at which Nova says it was created until its
// OpenStackNode has no server any more. What it has is in status.resolved, so a change of
// the flavor's definition does not rewrite the past. Machines in ERROR never count, and
// stopped ones only if the site says so.
//
// The counters survive restarts and changes of the leader: every interval, totals and
// their time are kept in a ConfigMap, and whoever continues adds the time in between for
// all machines that still exist. What cannot be known is lost, and is at most one interval,
// or the length of an outage: what a machine used between the last count and its end. And
// the state that a machine has when it is counted is taken for all the time since the
// count before. Without the ConfigMap counting begins anew, at the creation of each
// machine that exists.
//
// Only the leader exports the counters, so queries take the maximum over instances first:
//
//	sum by (projectname) (increase(max without (instance, pod) (osn_usage_vcpu_hours_total)[1d:1m]))
package usage
