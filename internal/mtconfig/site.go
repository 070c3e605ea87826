// SPDX-License-Identifier: Apache-2.0

package mtconfig

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Runs says what runs the webhooks.
type Runs string

// What can run the webhooks.
const (
	// Systemd writes unit files.
	Systemd Runs = "systemd"
	// StaticPods writes manifests for the control plane's kubelet.
	StaticPods Runs = "staticPods"
)

const (
	// maxReplicas is how many processes of one webhook share its address at most.
	maxReplicas = 5
	// ownDirectory is the directory in the texts of deploy.
	ownDirectory = "/etc/kubernetes/mt"
)

// Site is what a site says of itself, as written in its file.
type Site struct {
	// Directory is where everything goes, and where the webhooks and the API server read
	// it; /etc/kubernetes/mt when empty.
	Directory string `json:"directory,omitempty"`
	// APIServer is the URL by which the webhooks reach the API server beside them.
	APIServer string `json:"apiServer,omitempty"`
	// ClusterCA signs the certificates with which the webhooks read metadata.
	ClusterCA CA `json:"clusterCA,omitzero"`
	// Audiences are the API server's --api-audiences, or its --service-account-issuer.
	Audiences []string `json:"audiences,omitempty"`
	// Keystone and OIDC are who knows the users. One of them is needed.
	Keystone *Keystone `json:"keystone,omitempty"`
	// OIDC are providers in the form of kube-mt-authn's own file.
	OIDC []map[string]any `json:"oidc,omitempty"`
	// Tenants has kube-mt-authn make the projects' namespaces when they are first used; empty
	// is enough. Its keys are those of tenants in kube-mt-authn's file. Without it somebody
	// else makes namespaces.
	Tenants map[string]any `json:"tenants,omitempty"`
	// Proxy is where users come; none without it.
	Proxy *Proxy `json:"proxy,omitempty"`
	// Trusted are the full names of operators that make objects for others in projects'
	// namespaces, such as system:serviceaccount:caas-system:osnode-controller, which is
	// always one.
	Trusted []string `json:"trusted,omitempty"`
	// AdminGroups may do everything that RBAC grants them, beside system:masters. They are not of those who have logged in.
	AdminGroups []string `json:"adminGroups,omitempty"`
	// Replicas is how many processes of each webhook run on this machine; 2 when 0.
	Replicas int `json:"replicas,omitempty"`
	// Runs is systemd when empty.
	Runs Runs `json:"runs,omitempty"`
	// ProgramDir is the directory of the programs; /usr/local/bin when empty.
	ProgramDir string `json:"programs,omitempty"`
	// Image is the container images' name up to the program's, such as
	// ghcr.io/cloudveneto/, and Tag theirs, for static pods.
	Image string `json:"image,omitempty"`
	Tag   string `json:"tag,omitempty"`
	// Owner is the user whom the webhooks run as and who owns their keys, by name or
	// number; empty leaves all to who writes them.
	Owner string `json:"owner,omitempty"`
	// Policy, Authn, Authz and Admission are further keys of policy.yaml and of the
	// webhooks' files.
	Policy    map[string]any `json:"policy,omitempty"`
	Authn     map[string]any `json:"authn,omitempty"`
	Authz     map[string]any `json:"authz,omitempty"`
	Admission map[string]any `json:"admission,omitempty"`
}

// CA names the files of a certificate authority.
type CA struct {
	CertFile string `json:"certFile,omitempty"`
	KeyFile  string `json:"keyFile,omitempty"`
}

// Proxy is kube-mt-proxy, through which users see what is theirs without saying so.
type Proxy struct {
	// Listen is host:port; 0.0.0.0:8443 when empty.
	Listen string `json:"listen,omitempty"`
	// Names are the names and addresses in users' kubeconfigs. The cluster's CA signs a
	// certificate for them, proxy.crt; put another one in its place if users are to trust
	// another authority, and leave this empty.
	Names []string `json:"names,omitempty"`
}

// Keystone is the OpenStack whose users and projects are those of the platform.
type Keystone struct {
	AuthURL string `json:"authURL"`
	// CAFile is copied; without it the system's authorities count.
	CAFile string `json:"caFile,omitempty"`
	// Options are further keys of keystone in kube-mt-authn's file.
	Options map[string]any `json:"options,omitempty"`
}

// Parse reads a site's file, fills in defaults, and reports all that is wrong with it.
func Parse(content []byte) (Site, error) {
	var site Site
	if err := yaml.UnmarshalStrict(content, &site); err != nil {
		return Site{}, err
	}
	return site.Complete()
}

// Complete fills in defaults and reports all that is wrong.
func (s Site) Complete() (Site, error) {
	s.Directory = filepath.Clean(cmp.Or(s.Directory, ownDirectory))
	s.APIServer = cmp.Or(s.APIServer, "https://127.0.0.1:6443")
	s.ClusterCA.CertFile = cmp.Or(s.ClusterCA.CertFile, "/etc/kubernetes/pki/ca.crt")
	s.ClusterCA.KeyFile = cmp.Or(s.ClusterCA.KeyFile, "/etc/kubernetes/pki/ca.key")
	s.Replicas = cmp.Or(s.Replicas, 2)
	s.Runs = cmp.Or(s.Runs, Systemd)
	s.ProgramDir = cmp.Or(s.ProgramDir, "/usr/local/bin")
	s.Image = cmp.Or(s.Image, "ghcr.io/cloudveneto/")
	s.Tag = cmp.Or(s.Tag, "latest")
	if s.Proxy != nil {
		s.Proxy = &Proxy{Listen: cmp.Or(s.Proxy.Listen, "0.0.0.0:8443"), Names: s.Proxy.Names}
	}
	if len(s.Audiences) == 0 {
		s.Audiences = []string{"https://kubernetes.default.svc.cluster.local"}
	}
	return s, s.validate()
}

func (s Site) validate() error {
	var problems []error
	for _, part := range [][]error{s.validatePaths(), s.validateAddresses(), s.validateNames(), s.validateFurther()} {
		problems = append(problems, part...)
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(problems...)
}

func (s Site) validatePaths() []error {
	var problems []error
	for field, path := range map[string]string{
		"directory": s.Directory, "clusterCA.certFile": s.ClusterCA.CertFile, "clusterCA.keyFile": s.ClusterCA.KeyFile, "programs": s.ProgramDir,
	} {
		if !filepath.IsAbs(path) || strings.ContainsAny(path, " \t\n\"'%$") {
			problems = append(problems, fmt.Errorf("%s: %q: want an absolute path without spaces and quotes", field, path))
		}
	}
	return problems
}

func (s Site) validateAddresses() []error {
	var problems []error
	if !isHTTPS(s.APIServer) {
		problems = append(problems, fmt.Errorf("apiServer: %q: want https://host:port", s.APIServer))
	}
	if s.Keystone == nil && len(s.OIDC) == 0 {
		problems = append(problems, errors.New("neither keystone nor oidc is given: nobody could log in"))
	}
	if s.Keystone != nil && !isHTTPS(s.Keystone.AuthURL) {
		problems = append(problems, fmt.Errorf("keystone.authURL: %q: want https://host:port/v3: passwords and tokens go there", s.Keystone.AuthURL))
	}
	if s.Proxy != nil {
		if _, _, err := net.SplitHostPort(s.Proxy.Listen); err != nil {
			problems = append(problems, fmt.Errorf("proxy.listen: %q: want host:port", s.Proxy.Listen))
		}
	}
	return problems
}

func isHTTPS(address string) bool {
	parsed, err := url.Parse(address)
	return err == nil && parsed.Scheme == "https" && parsed.Host != ""
}

func (s Site) validateNames() []error {
	var problems []error
	if s.Replicas < 1 || s.Replicas > maxReplicas {
		problems = append(problems, fmt.Errorf("replicas: %d: want 1 to %d", s.Replicas, maxReplicas))
	}
	if s.Runs != Systemd && s.Runs != StaticPods {
		problems = append(problems, fmt.Errorf("runs: %q: want %s or %s", s.Runs, Systemd, StaticPods))
	}
	for field, names := range map[string][]string{"trusted": s.Trusted, "adminGroups": s.AdminGroups} {
		for _, name := range names {
			if name == "" || strings.ContainsAny(name, "*\n\r\\'") {
				problems = append(problems, fmt.Errorf("%s: %q: names must be given in full", field, name))
			}
		}
	}
	return problems
}

// validateFurther keeps the further keys off what is decided here, where several files have to agree.
func (s Site) validateFurther() []error {
	var problems []error
	decided := map[string][]string{
		"policy": {"trustedUsers", "adminGroups"},
		"authn":  {"listen", "reusePort", "tls", "audiences", "keystone", "oidc", "tenants"},
		"authz":  {"listen", "reusePort", "tls", "kubeconfig", "webhookKubeconfig", "policyFile", "trusted"},
		"admission": {
			"listen", "reusePort", "opsListen", "tls", "policyFile",
		},
	}
	given := map[string]map[string]any{"policy": s.Policy, "authn": s.Authn, "authz": s.Authz, "admission": s.Admission}
	if s.Keystone != nil {
		decided["keystone.options"], given["keystone.options"] = []string{"authURL", "caFile"}, s.Keystone.Options
	}
	for field, keys := range decided {
		for _, key := range slices.Sorted(maps.Keys(given[field])) {
			if slices.Contains(keys, key) {
				problems = append(problems, fmt.Errorf("%s.%s: is written from the rest of this file", field, key))
			}
		}
	}
	return problems
}

// path is a file in the directory.
func (s Site) path(name string) string { return filepath.Join(s.Directory, name) }
