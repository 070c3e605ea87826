// SPDX-License-Identifier: Apache-2.0

// Package apply creates and deletes pods in the target cluster so that a crash,
// a repeated request or a lost answer at any moment leaves neither a second pod nor
// an orphan.
//
// A pod with ConfigMaps or Secrets is created first, held by a scheduling gate;
// then the objects, owned by the pod; then the gate is removed. Deleting the pod
// therefore always deletes everything, and a repeated create finds the gate and
// goes on where the first one stopped. Claims of the pod are made while it is held,
// too; they are shared with other pods and not owned by it. A pod without objects costs one request.
package apply
