// SPDX-License-Identifier: Apache-2.0

package v1

//go:generate go tool -modfile=../../../go.tools.mod controller-gen object paths=. output:object:dir=.
//go:generate go tool -modfile=../../../go.tools.mod controller-gen crd:generateEmbeddedObjectMeta=true paths=. output:crd:dir=../../../deploy/osnode/crds
