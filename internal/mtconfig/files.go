// SPDX-License-Identifier: Apache-2.0

package mtconfig

import (
	"encoding/base64"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/deploy"
)

// Files in the directory that others name.
const (
	AuthenticationFile = "authentication.yaml"
	AuthorizationFile  = "authorization.yaml"
	AdmissionFile      = "apiserver-admission.yaml"
	AuthnKubeconfig    = "authn.kubeconfig"
	// RightsFile, TenantRoleFile, PoliciesFile and WebhooksFile are to be applied in this order.
	RightsFile     = "manifests/1-rbac.yaml"
	TenantRoleFile = "manifests/2-tenant-role.yaml"
	PoliciesFile   = "manifests/3-policies.yaml"
	WebhooksFile   = "manifests/4-webhooks.yaml"

	caFile          = "ca.crt"
	caKeyFile       = "ca.key"
	clusterCAFile   = "cluster-ca.crt"
	keystoneCAFile  = "keystone-ca.crt"
	policyFile      = "policy.yaml"
	argumentsFile   = "kube-apiserver.args"
	kubeadmFile     = "kubeadm.yaml"
	authnWebhook    = "kube-mt-authn"
	authzWebhook    = "kube-mt-authz"
	admissionHook   = "kube-mt-admission"
	proxyProgram    = "kube-mt-proxy"
	osnodeOperator  = "system:serviceaccount:caas-system:osnode-controller"
	writtenByHeader = "# Written by kube-mt-setup. Change the site's own file and run it again.\n"
)

type object = map[string]any

// Manifests are the files with objects for the cluster, in the order in which they are applied. The last may be applied
// when the webhooks answer, and not before: from then on nothing changes in projects' namespaces without them.
func Manifests() []string { return []string{RightsFile, TenantRoleFile, PoliciesFile, WebhooksFile} }

// files are the contents of all files but certificates and keys, by name. ca is the certificate of the webhooks' CA.
func (s Site) files(ca []byte) (map[string]string, error) {
	w := &writer{site: s, files: map[string]string{}}
	for name, from := range map[string]string{
		AuthnKubeconfig:             "kube-mt-authn/authn.kubeconfig",
		"authz.kubeconfig":          "kube-mt-authz/authz.kubeconfig",
		"webhook-client.kubeconfig": "kube-mt-admission/webhook-client.kubeconfig",
		AuthenticationFile:          "kube-mt-authn/authentication.yaml",
		AdmissionFile:               "kube-mt-admission/apiserver-admission.yaml",
		TenantRoleFile:              "kube-mt-authz/tenant-role.yaml",
		PoliciesFile:                "kube-mt-admission/policies.yaml",
	} {
		w.put(name, w.text(from))
	}
	w.put(RightsFile, strings.Join([]string{
		w.text("kube-mt-authz/rbac.yaml"), w.text("kube-mt-admission/rbac.yaml"), w.text("kube-mt-authn/tenants-rbac.yaml"),
	}, "---\n"))
	w.put(WebhooksFile, strings.ReplaceAll(w.text("kube-mt-admission/webhooks.yaml"), "CA_BUNDLE", base64.StdEncoding.EncodeToString(ca)))
	w.put(AuthorizationFile, w.authorization())
	w.settings()
	w.kubeconfigs()
	w.copies()
	w.apiServer()
	w.units()
	return w.files, w.err
}

// writer collects files; its first error ends all further work.
type writer struct {
	site  Site
	files map[string]string
	err   error
}

func (w *writer) put(name, content string) { w.files[name] = content }

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

// text is a file of deploy with the site's directory.
func (w *writer) text(name string) string {
	content, err := deploy.Multitenancy(name)
	if err != nil {
		w.fail(err)
	}
	return strings.ReplaceAll(content, ownDirectory, w.site.Directory)
}

// document is a file of deploy with one document.
func (w *writer) document(name string) object {
	var document object
	if err := yaml.Unmarshal([]byte(w.text(name)), &document); err != nil {
		w.fail(fmt.Errorf("%s: %w", name, err))
	}
	return document
}

func (w *writer) putYAML(name string, document any) {
	content, err := yaml.Marshal(document)
	if err != nil {
		w.fail(fmt.Errorf("%s: %w", name, err))
	}
	w.put(name, writtenByHeader+string(content))
}

// authorization adds whom the site trusts to those whom kube-mt-authz is not asked about, as kube-mt-authz itself writes it.
func (w *writer) authorization() string {
	document := w.document("kube-mt-authz/authorization.yaml")
	authorizers, _ := document["authorizers"].([]any)
	for _, each := range authorizers {
		authorizer, _ := each.(object)
		webhook, isWebhook := authorizer["webhook"].(object)
		if !isWebhook {
			continue
		}
		conditions, _ := webhook["matchConditions"].([]any)
		for _, name := range w.site.Trusted {
			if name != osnodeOperator {
				conditions = append(conditions, object{"expression": exceptLogins(name, fmt.Sprintf("request.user != '%s'", name))})
			}
		}
		for _, group := range w.site.AdminGroups {
			conditions = append(conditions, object{"expression": exceptLogins(group, fmt.Sprintf("!('%s' in request.groups)", group))})
		}
		webhook["matchConditions"] = conditions
	}
	content, err := yaml.Marshal(document)
	if err != nil {
		w.fail(err)
	}
	return writtenByHeader + string(content)
}

// exceptLogins has kube-mt-authz asked about all who have logged in, who may be called as somebody whom the site trusts; names
// that begin with system: they cannot have.
func exceptLogins(name, expression string) string {
	if strings.HasPrefix(name, "system:") {
		return expression
	}
	return expression + " || 'osn:authenticated' in request.groups"
}

// settings are the webhooks' own files.
func (w *writer) settings() {
	s := w.site
	authn := w.document("kube-mt-authn/authn.yaml")
	delete(authn, "keystone")
	delete(authn, "oidc")
	authn["audiences"] = s.Audiences
	if s.Keystone != nil {
		keystone := object{"authURL": s.Keystone.AuthURL}
		if s.Keystone.CAFile != "" {
			keystone["caFile"] = s.path(keystoneCAFile)
		}
		maps.Copy(keystone, s.Keystone.Options)
		authn["keystone"] = keystone
	}
	if len(s.OIDC) > 0 {
		authn["oidc"] = s.OIDC
	}
	if s.Tenants != nil {
		tenants := object{"kubeconfig": s.path("tenants.kubeconfig")}
		maps.Copy(tenants, s.Tenants)
		authn["tenants"] = tenants
	} else {
		delete(authn, "tenants")
	}
	authz, admission := w.document("kube-mt-authz/authz.yaml"), w.document("kube-mt-admission/admission.yaml")
	for name, one := range map[string]struct{ document, further object }{
		"authn.yaml": {authn, s.Authn}, "authz.yaml": {authz, s.Authz}, "admission.yaml": {admission, s.Admission},
	} {
		if s.Replicas > 1 {
			one.document["reusePort"] = true
		}
		if name != "authn.yaml" {
			one.document["policyFile"] = s.path(policyFile)
		}
		maps.Copy(one.document, one.further)
		w.putYAML(name, one.document)
	}
	w.proxy()
	policy := object{"trustedUsers": trusted(s.Trusted)}
	if len(s.AdminGroups) > 0 {
		policy["adminGroups"] = s.AdminGroups
	}
	maps.Copy(policy, s.Policy)
	w.putYAML(policyFile, policy)
}

// proxy is the proxy's file. What it selects is what kube-mt-authz demands.
func (w *writer) proxy() {
	s := w.site
	if s.Proxy == nil {
		return
	}
	document := w.document("kube-mt-proxy/proxy.yaml")
	document["listen"], document["policyFile"] = s.Proxy.Listen, s.path(policyFile)
	document["server"] = object{"url": s.APIServer, "caFile": s.ClusterCA.CertFile}
	for _, key := range []string{"listMode", "sensitive"} {
		if value, given := s.Authz[key]; given {
			document[key] = value
		}
	}
	if s.Replicas > 1 {
		document["reusePort"] = true
	}
	w.putYAML("proxy.yaml", document)
}

// trusted has the platform's own operator first.
func trusted(names []string) []string {
	all := []string{osnodeOperator}
	for _, name := range names {
		if name != osnodeOperator {
			all = append(all, name)
		}
	}
	return all
}

// kubeconfigs are those with which the webhooks read metadata.
func (w *writer) kubeconfigs() {
	for _, reader := range readers() {
		w.putYAML(reader.kubeconfig, object{
			"apiVersion": "v1", "kind": "Config", "current-context": reader.user,
			"clusters": []object{{"name": "kubernetes", "cluster": object{
				"server": w.site.APIServer, "certificate-authority": w.site.path(clusterCAFile),
			}}},
			"users": []object{{"name": reader.user, "user": object{
				"client-certificate": w.site.path(reader.file + ".crt"), "client-key": w.site.path(reader.file + ".key"),
			}}},
			"contexts": []object{{"name": reader.user, "context": object{"cluster": "kubernetes", "user": reader.user}}},
		})
	}
}

// copies are certificates of others, so that all is in one directory.
func (w *writer) copies() {
	from := map[string]string{clusterCAFile: w.site.ClusterCA.CertFile}
	if w.site.Keystone != nil && w.site.Keystone.CAFile != "" {
		from[keystoneCAFile] = w.site.Keystone.CAFile
	}
	for name, path := range from {
		content, err := os.ReadFile(filepath.Clean(path))
		if err != nil {
			w.fail(fmt.Errorf("copy certificate: %w", err))
		}
		w.put(name, string(content))
	}
}
