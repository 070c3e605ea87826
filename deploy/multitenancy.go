// SPDX-License-Identifier: Apache-2.0

package deploy

import "embed"

//go:embed kube-mt-authn/*.yaml kube-mt-authn/*.kubeconfig kube-mt-authn/*.service
//go:embed kube-mt-authz/*.yaml kube-mt-authz/*.kubeconfig kube-mt-authz/*.service
//go:embed kube-mt-admission/*.yaml kube-mt-admission/*.kubeconfig kube-mt-admission/*.service
//go:embed kube-mt-proxy/*.yaml kube-mt-proxy/*.service
var multitenancy embed.FS

// Multitenancy is a file of one of the directories kube-mt-…, such as
// kube-mt-authz/rbac.yaml.
func Multitenancy(name string) (string, error) {
	content, err := multitenancy.ReadFile(name)
	return string(content), err
}
