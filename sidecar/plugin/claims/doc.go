// SPDX-License-Identifier: Apache-2.0

// Package claims deletes the claims that the sidecar made for pods of origins, when no
// pod uses them any more and the site does not want them retained.
//
// A claim is shared by pods, so none of them owns it, and it has to outlive the moment
// between one pod and the next. All that is known is on the objects: the claim has its
// retention and its grace time, and each pod a label per claim. A claim without pods
// is marked with the time, and deleted when the mark is older than the grace time and
// the cluster itself knows of no pod with the label.
//
// No claim goes while a pod is being created that uses it. That pod exists, with its
// label, before its claims are looked at, and taking away a mark changes the claim. So
// either the pod is in the list that follows the mark, or the deletion, which names the
// version with the mark, fails. A crash between two steps leaves a mark, or a claim
// without one, and both are looked at again.
package claims
