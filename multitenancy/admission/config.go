// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// Pod Security levels of Rules.PrivateNodes.
const (
	levelBaseline   = "baseline"
	levelPrivileged = "privileged"
)

// Rules are what a site may choose.
type Rules struct {
	// Controllers are users that make objects for others: the owner is that of the
	// controlling object.
	Controllers []string `json:"controllers,omitempty"`
	// Schedulers may bind pods to nodes.
	Schedulers []string `json:"schedulers,omitempty"`
	// Annotations under the platform's prefix that users may set, besides the policy.
	Annotations []string `json:"annotations,omitempty"`
	// IngressAnnotations that users may set; a name that ends with / allows all below it.
	IngressAnnotations []string `json:"ingressAnnotations,omitempty"`
	// PriorityClasses that pods may have.
	PriorityClasses []string `json:"priorityClasses,omitempty"`
	// SchedulerNames that pods may have.
	SchedulerNames []string `json:"schedulerNames,omitempty"`
	// ServiceTypes that Services may have.
	ServiceTypes []string `json:"serviceTypes,omitempty"`
	// VolumeTypes that pods may have, by the names of their fields.
	VolumeTypes []string `json:"volumeTypes,omitempty"`
	// PrivateNodes is baseline or privileged: what pods may do that run on their owner's
	// nodes only. On shared nodes it is always baseline.
	PrivateNodes string `json:"privateNodes,omitempty"`
	// ObjectsGate is the scheduling gate of pods that are made before what they refer to.
	ObjectsGate string `json:"objectsGate,omitempty"`
}

// DefaultRules are those of a cluster made by kubeadm.
func DefaultRules() Rules {
	return Rules{
		Controllers: append([]string{"system:kube-controller-manager", "system:kube-mt-tenants"}, kubeSystem(
			"attachdetach-controller", "cronjob-controller", "daemon-set-controller", "deployment-controller",
			"device-taint-eviction-controller", "disruption-controller", "endpoint-controller", "endpointslice-controller",
			"endpointslicemirroring-controller", "ephemeral-volume-controller", "expand-controller",
			"generic-garbage-collector", "horizontal-pod-autoscaler", "job-controller", "legacy-service-account-token-cleaner",
			"namespace-controller", "node-controller", "persistent-volume-binder", "pod-garbage-collector",
			"pv-protection-controller", "pvc-protection-controller", "replicaset-controller", "replication-controller",
			"resource-claim-controller", "resourcequota-controller", "root-ca-cert-publisher", "selinux-warning-controller",
			"service-account-controller", "service-controller", "statefulset-controller", "taint-eviction-controller",
			"tokens-controller", "ttl-after-finished-controller", "ttl-controller", "volumeattributesclass-protection-controller",
		)...),
		Schedulers:     []string{"system:kube-scheduler"},
		Annotations:    []string{"osn.infn.it/retry", "osn.infn.it/force-delete", "osn.infn.it/do-not-disrupt"},
		SchedulerNames: []string{"default-scheduler"},
		ServiceTypes:   []string{"ClusterIP"},
		VolumeTypes: []string{
			"configMap", "secret", "projected", "downwardAPI", "emptyDir", "persistentVolumeClaim", "ephemeral", "image", "nfs",
			// The level of the nodes decides about hostPath. Drivers of csi may take names of
			// objects from their attributes, which nobody else understands.
			"hostPath",
		},
		IngressAnnotations: []string{"kubernetes.io/ingress.class", "cert-manager.io/"},
		PrivateNodes:       levelBaseline,
		ObjectsGate:        "offload.infn.it/objects",
	}
}

func kubeSystem(names ...string) []string {
	users := make([]string, len(names))
	for i, name := range names {
		users[i] = "system:serviceaccount:kube-system:" + name
	}
	return users
}

// Validate names all that is wrong.
func (r Rules) Validate() error {
	var problems []error
	if r.PrivateNodes != levelBaseline && r.PrivateNodes != levelPrivileged {
		problems = append(problems, fmt.Errorf("rules.privateNodes: %q: want %s or %s", r.PrivateNodes, levelBaseline, levelPrivileged))
	}
	for field, users := range map[string][]string{"controllers": r.Controllers, "schedulers": r.Schedulers} {
		if slices.ContainsFunc(users, func(user string) bool { return strings.TrimSpace(user) == "" || strings.Contains(user, "*") }) {
			problems = append(problems, fmt.Errorf("rules.%s: names must be given in full", field))
		}
	}
	for _, name := range r.Annotations {
		if !strings.HasPrefix(name, tenant.Prefix) {
			problems = append(problems, fmt.Errorf("rules.annotations: %q is not below %s", name, tenant.Prefix))
		}
	}
	if len(r.SchedulerNames) == 0 || len(r.ServiceTypes) == 0 || len(r.VolumeTypes) == 0 {
		problems = append(problems, errors.New("rules: schedulerNames, serviceTypes and volumeTypes must not be empty"))
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(problems...)
}

// Lookup asks the API server itself about one object, of which the index may not have
// heard yet. It returns nil when there is none, and an error when it cannot tell. It MUST
// honour the context's deadline.
type Lookup interface {
	Lookup(ctx context.Context, key Key) (*Object, error)
}

// Config is what an Admitter needs. All but Rules is required.
type Config struct {
	Index  *Index
	Nodes  *Nodes
	Lookup Lookup
	Policy tenant.Policy
	// Rules are DefaultRules when nil.
	Rules *Rules
	// Ready says why what is known is not complete yet for requests about a kind.
	Ready   func(ctx context.Context, resource schema.GroupResource) error
	Metrics *prometheus.Registry
}

// Admitter decides about requests.
type Admitter struct {
	index   *Index
	nodes   *Nodes
	lookup  Lookup
	policy  tenant.Policy
	rules   Rules
	ready   func(ctx context.Context, resource schema.GroupResource) error
	metrics *metrics
}

// New checks the configuration.
func New(cfg Config) (*Admitter, error) {
	if cfg.Index == nil || cfg.Nodes == nil || cfg.Lookup == nil || cfg.Ready == nil || cfg.Metrics == nil {
		return nil, errors.New("admission: index, nodes, lookup, ready and metrics are required")
	}
	rules := DefaultRules()
	if cfg.Rules != nil {
		rules = *cfg.Rules
	}
	if err := errors.Join(rules.Validate(), cfg.Policy.Validate()); err != nil {
		return nil, fmt.Errorf("admission: %w", err)
	}
	measured, err := newMetrics(cfg.Metrics, cfg.Index)
	if err != nil {
		return nil, err
	}
	return &Admitter{
		index: cfg.Index, nodes: cfg.Nodes, lookup: cfg.Lookup, policy: cfg.Policy, rules: rules, ready: cfg.Ready, metrics: measured,
	}, nil
}
