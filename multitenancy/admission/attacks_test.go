// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/cloudveneto/caas/multitenancy/admission"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// pod is one with more in its spec.
func pod(tb testing.TB, more string) object {
	tb.Helper()
	return parse(tb, "metadata: {name: p}\nspec:\n  containers: [{name: main, image: i}]\n"+indent(more, "  "))
}

func workload(tb testing.TB, more string) object {
	tb.Helper()
	return parse(tb, "metadata: {name: w}\nspec:\n  selector: {matchLabels: {app: w}}\n  template:\n    metadata: {labels: {app: w}}\n"+
		"    spec:\n      containers: [{name: main, image: i}]\n"+indent(more, "      "))
}

func indent(text, by string) string {
	if text == "" {
		return ""
	}
	return by + strings.ReplaceAll(text, "\n", "\n"+by) + "\n"
}

// TestReferenceAttacks is one case for each way in which a pod can name what is Bob's.
func TestReferenceAttacks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ spec, want string }{
		"A32 serviceAccountName":         {"serviceAccountName: bobs", `spec.serviceAccountName: serviceaccounts "bobs"`},
		"A33 volume secret":              {"volumes: [{name: v, secret: {secretName: bobs}}]", `spec.volumes[0].secret: secrets "bobs"`},
		"A33 volume configMap":           {"volumes: [{name: v, configMap: {name: bobs}}]", `spec.volumes[0].configMap: configmaps "bobs"`},
		"A33 volume claim":               {"volumes: [{name: v, persistentVolumeClaim: {claimName: bobs}}]", `spec.volumes[0].persistentVolumeClaim: persistentvolumeclaims "bobs"`},
		"A33 projected secret":           {"volumes: [{name: v, projected: {sources: [{downwardAPI: {}}, {secret: {name: bobs}}]}}]", `spec.volumes[0].projected.sources[1].secret: secrets "bobs"`},
		"A33 projected configMap":        {"volumes: [{name: v, projected: {sources: [{configMap: {name: bobs}}]}}]", `spec.volumes[0].projected.sources[0].configMap: configmaps "bobs"`},
		"A33 imagePullSecrets":           {"imagePullSecrets: [{name: mine}, {name: bobs}]", `spec.imagePullSecrets[1]: secrets "bobs"`},
		"A33 init env":                   {"initContainers: [{name: i, env: [{name: A, valueFrom: {secretKeyRef: {name: bobs, key: k}}}]}]", `spec.initContainers[0].env[0].valueFrom.secretKeyRef: secrets "bobs"`},
		"A33 init envFrom":               {"initContainers: [{name: i, envFrom: [{configMapRef: {name: bobs}}]}]", `spec.initContainers[0].envFrom[0].configMapRef: configmaps "bobs"`},
		"A34 ephemeral envFrom":          {"ephemeralContainers: [{name: e, envFrom: [{secretRef: {name: bobs}}]}]", `spec.ephemeralContainers[0].envFrom[0].secretRef: secrets "bobs"`},
		"A35 dangling":                   {"volumes: [{name: v, secret: {secretName: later}}]", `spec.volumes[0].secret: secrets "later"`},
		"A35 dangling, optional":         {"volumes: [{name: v, secret: {secretName: later, optional: true}}]", `spec.volumes[0].secret: secrets "later"`},
		"A46 ephemeral claim's volume":   {"volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {volumeName: bobs}}}}]", `spec.volumes[0].ephemeral.volumeClaimTemplate.spec.volumeName: persistentvolumes "bobs"`},
		"A46 ephemeral claim's source":   {"volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {dataSource: {kind: PersistentVolumeClaim, name: bobs}}}}}]", `spec.volumes[0].ephemeral.volumeClaimTemplate.spec.dataSource: persistentvolumeclaims "bobs"`},
		"resource claim":                 {"resourceClaims: [{name: c, resourceClaimName: bobs}]", `spec.resourceClaims[0].resourceClaimName: resourceclaims.resource.k8s.io "bobs"`},
		"A46 ephemeral claim, squatting": {"volumes: [{name: squat, ephemeral: {volumeClaimTemplate: {spec: {}}}}]", `spec.volumes[0].ephemeral: persistentvolumeclaims "p-squat"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.own(bob, "", "persistentvolumeclaims", "p-squat")
			_, response := w.decide(t, request{by: user(alice), resource: "core/pods", object: pod(t, test.spec)})
			assert.Equal(t, test.want+": not found or not yours", refused(response))
			_, response = w.decide(t, request{by: user(alice), resource: "core/pods", object: pod(t, strings.ReplaceAll(strings.ReplaceAll(test.spec, "bobs", "mine"), "later", "mine"))})
			if !strings.Contains(name, "A46") && name != "resource claim" {
				assert.Empty(t, refused(response), "the same with an own object")
			}
		})
	}
}

// TestPlacementAttacks tries to run where the user must not.
func TestPlacementAttacks(t *testing.T) {
	t.Parallel()
	const named = "nodeName is not allowed; use nodeSelector kubernetes.io/hostname"
	cron := func(spec string) object {
		return parse(t, "metadata: {name: c}\nspec: {jobTemplate: {spec: {template: {spec: {containers: [], "+spec+"}}}}}")
	}
	for name, test := range map[string]struct {
		resource string
		object   object
		want     string
	}{
		"A49 pod":             {"core/pods", pod(t, "nodeName: node-1"), "spec." + named},
		"A49 deployment":      {"apps/deployments", workload(t, "nodeName: node-1"), "spec.template.spec." + named},
		"A49 replicaset":      {"apps/replicasets", workload(t, "nodeName: node-1"), "spec.template.spec." + named},
		"A49 statefulset":     {"apps/statefulsets", workload(t, "nodeName: node-1"), "spec.template.spec." + named},
		"A49 daemonset":       {"apps/daemonsets", workload(t, "nodeName: node-1"), "spec.template.spec." + named},
		"A49 job":             {"batch/jobs", workload(t, "nodeName: node-1"), "spec.template.spec." + named},
		"A49 cronjob":         {"batch/cronjobs", cron("nodeName: node-1"), "spec.jobTemplate.spec.template.spec." + named},
		"A49 rc":              {"core/replicationcontrollers", parse(t, "metadata: {name: r}\nspec: {selector: {a: b}, template: {spec: {nodeName: node-1}}}"), "spec.template.spec." + named},
		"A50 everything":      {"core/pods", pod(t, "tolerations: [{operator: Exists}]"), "spec.tolerations[0]: tolerating every taint is not allowed; give a key"},
		"A50 everything once": {"core/pods", pod(t, "tolerations: [{operator: Exists, effect: NoExecute}]"), "spec.tolerations[0]: tolerating every taint is not allowed; give a key"},
		"A50 any pool":        {"core/pods", pod(t, "tolerations: [{key: osn.infn.it/pool, operator: Exists}]"), "spec.tolerations[0]: tolerating the taint osn.infn.it/pool is not allowed"},
		"A50 bob's pool":      {"core/pods", pod(t, "tolerations: [{key: osn.infn.it/pool, value: u-"+bob+"}]"), "spec.tolerations[0]: tolerating the taint osn.infn.it/pool is not allowed"},
		"A50 shared by stealth": {
			"core/pods", pod(t, "tolerations: [{key: osn.infn.it/pool, value: p-"+project+"}]"),
			"spec.tolerations[0]: tolerating the taint osn.infn.it/pool is not allowed",
		},
		"A50 uninitialized": {"core/pods", pod(t, "tolerations: [{key: osn.infn.it/uninitialized}]"), "spec.tolerations[0]: tolerating the taint osn.infn.it/uninitialized is not allowed"},
		"A50 control plane": {
			"core/pods", pod(t, "tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]"),
			"spec.tolerations[0]: tolerating the taint node-role.kubernetes.io/control-plane is not allowed",
		},
		"A50 template": {"apps/deployments", workload(t, "tolerations: [{operator: Exists}]"), "spec.template.spec.tolerations[0]: tolerating every taint is not allowed; give a key"},
		"A52 typo": {
			"core/pods", parse(t, "metadata: {name: p, annotations: {osn.infn.it/policy: Shared}}\nspec: {}"),
			`metadata.annotations[osn.infn.it/policy]: "Shared" is neither private nor shared`,
		},
		"A52 typo on workload": {
			"apps/deployments", parse(t, "metadata: {name: w, annotations: {osn.infn.it/policy: any}}\nspec: {template: {spec: {}}}"),
			`spec.template.metadata.annotations[osn.infn.it/policy]: "any" is neither private nor shared`,
		},
		"A54 scheduler":  {"core/pods", pod(t, "schedulerName: evil"), "spec.schedulerName: evil is not allowed"},
		"priority":       {"core/pods", pod(t, "priorityClassName: system-node-critical"), "spec.priorityClassName: system-node-critical is not allowed"},
		"unknown volume": {"core/pods", pod(t, "volumes: [{name: v}]"), "spec.volumes[0]: of a type that kube-mt-admission does not know"},
		"raw storage":    {"core/pods", pod(t, "volumes: [{name: v, cinder: {volumeID: x}}]"), "spec.volumes[0]: volumes of type cinder are not allowed; use a PersistentVolumeClaim"},
		"host path":      {"core/pods", pod(t, "volumes: [{name: v, hostPath: {path: /}}]"), "spec.volumes[0].hostPath is not allowed"},
		"privileged":     {"core/pods", pod(t, "initContainers: [{name: i, securityContext: {privileged: true}}]"), "spec.initContainers[0].securityContext.privileged is not allowed"},
		"capability":     {"core/pods", pod(t, "initContainers: [{name: i, securityContext: {capabilities: {add: [SYS_ADMIN]}}}]"), "spec.initContainers[0].securityContext.capabilities.add: SYS_ADMIN is not allowed"},
		"host namespaces": {
			"core/pods", pod(t, "hostNetwork: true\nhostPID: true\nhostIPC: true"),
			"spec.hostIPC is not allowed; spec.hostNetwork is not allowed; spec.hostPID is not allowed",
		},
		"probe elsewhere": {
			"core/pods", pod(t, "initContainers: [{name: i, livenessProbe: {httpGet: {host: 169.254.169.254, port: 80}}}]"),
			"spec.initContainers[0].livenessProbe: a host is not allowed",
		},
		"unknown field": {
			"core/pods", pod(t, "secretFromTheFuture: bobs"),
			`spec: kube-mt-admission does not know all of it: strict decoding error: unknown field "secretFromTheFuture"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, response := newWorld(t).decide(t, request{by: user(alice), resource: test.resource, object: test.object})
			assert.Equal(t, test.want, refused(response))
		})
	}
}

// TestObjectAttacks are those by objects other than pods.
func TestObjectAttacks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ resource, object, want string }{
		"A20 forged key":      {"core/configmaps", "metadata: {name: c, labels: {osn.infn.it/nodepool: x}}", "metadata.labels[osn.infn.it/nodepool] is the platform's and cannot be set"},
		"A20 abandon":         {"osnode.infn.it/openstacknodes", "metadata: {name: c, annotations: {osn.infn.it/abandon: \"true\"}}", "metadata.annotations[osn.infn.it/abandon] is the platform's and cannot be set"},
		"A31":                 {"core/secrets", "metadata: {name: c}\ntype: kubernetes.io/service-account-token", "type: a Secret of type kubernetes.io/service-account-token is not allowed; use kubectl create token"},
		"A40 secret":          {"core/configmaps", "metadata: {name: c, ownerReferences: [{apiVersion: v1, kind: Secret, name: bobs, uid: secrets/bobs}]}", `metadata.ownerReferences: Secret "bobs": not found or not yours`},
		"A40 forged UID":      {"core/configmaps", "metadata: {name: c, ownerReferences: [{apiVersion: v1, kind: Secret, name: mine, uid: secrets/bobs}]}", `metadata.ownerReferences: Secret "mine": not found or not yours`},
		"A40 other kind":      {"core/configmaps", "metadata: {name: c, ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: mine, uid: secrets/mine}]}", `metadata.ownerReferences: ConfigMap "mine": not found or not yours`},
		"A40 node":            {"core/configmaps", "metadata: {name: c, ownerReferences: [{apiVersion: v1, kind: Node, name: node-1, uid: node-1}]}", `metadata.ownerReferences: Node "node-1": not found or not yours`},
		"A41 job":             {"batch/jobs", "metadata: {name: j}\nspec: {manualSelector: true}", "spec.manualSelector is not allowed"},
		"A41 cronjob":         {"batch/cronjobs", "metadata: {name: j}\nspec: {jobTemplate: {spec: {manualSelector: true}}}", "spec.jobTemplate.spec.manualSelector is not allowed"},
		"A43 endpoints":       {"core/endpoints", "metadata: {name: e}", "endpoints cannot be changed by users"},
		"A43 slices":          {"discovery.k8s.io/endpointslices", "metadata: {name: e}", "endpointslices.discovery.k8s.io cannot be changed by users"},
		"A44 HPA":             {"autoscaling/horizontalpodautoscalers", "metadata: {name: h}\nspec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: bobs}}", `spec.scaleTargetRef: deployments.apps "bobs": not found or not yours`},
		"A44 HPA metric":      {"autoscaling/horizontalpodautoscalers", "metadata: {name: h}\nspec: {metrics: [{object: {describedObject: {apiVersion: v1, kind: Service, name: bobs}}}]}", `spec.metrics[0].object.describedObject: services "bobs": not found or not yours`},
		"A45 service":         {"networking.k8s.io/ingresses", "metadata: {name: i}\nspec: {rules: [{http: {paths: [{backend: {service: {name: bobs}}}]}}]}", `spec.rules[0].http.paths[0].backend.service: services "bobs": not found or not yours`},
		"A45 default backend": {"networking.k8s.io/ingresses", "metadata: {name: i}\nspec: {defaultBackend: {service: {name: bobs}}}", `spec.defaultBackend.service: services "bobs": not found or not yours`},
		"A45 TLS":             {"networking.k8s.io/ingresses", "metadata: {name: i}\nspec: {tls: [{secretName: bobs}]}", `spec.tls[0].secretName: secrets "bobs": not found or not yours`},
		"A45 host":            {"networking.k8s.io/ingresses", "metadata: {name: i}\nspec: {rules: [{host: bob.example.org}]}", "spec.rules[0].host: bob.example.org is served for somebody else"},
		"A45 snippet":         {"networking.k8s.io/ingresses", "metadata: {name: i, annotations: {nginx.ingress.kubernetes.io/server-snippet: x}}", "metadata.annotations[nginx.ingress.kubernetes.io/server-snippet] is not allowed"},
		"A46 clone":           {"core/persistentvolumeclaims", "metadata: {name: c}\nspec: {dataSource: {kind: PersistentVolumeClaim, name: bobs}}", `spec.dataSource: persistentvolumeclaims "bobs": not found or not yours`},
		"A46 snapshot":        {"core/persistentvolumeclaims", "metadata: {name: c}\nspec: {dataSourceRef: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: x}}", `spec.dataSourceRef: volumesnapshots.snapshot.storage.k8s.io "x": not found or not yours`},
		"A46 other namespace": {"core/persistentvolumeclaims", "metadata: {name: c}\nspec: {dataSourceRef: {kind: PersistentVolumeClaim, name: mine, namespace: ops}}", "spec.dataSourceRef: cannot be referred to from here"},
		"A46 volume":          {"core/persistentvolumeclaims", "metadata: {name: c}\nspec: {volumeName: bobs}", `spec.volumeName: persistentvolumes "bobs": not found or not yours`},
		"A46 squatted claims": {"apps/statefulsets", "metadata: {name: db}\nspec: {replicas: 3, volumeClaimTemplates: [{metadata: {name: data}}]}", "spec.volumeClaimTemplates: the claim data-db-2 is not yours"},
		"A48 quota":           {"core/resourcequotas", "metadata: {name: q}", "resourcequotas cannot be changed by users"},
		"A47 role":            {"rbac.authorization.k8s.io/rolebindings", "metadata: {name: q}", "rolebindings.rbac.authorization.k8s.io cannot be changed by users"},
		"A58 unknown kind":    {"example.org/things", "metadata: {name: t}", "things.example.org cannot be changed by users"},
		"account's secrets":   {"core/serviceaccounts", "metadata: {name: s}\nsecrets: [{name: bobs}]\nimagePullSecrets: [{name: mine}]", `secrets[0]: secrets "bobs": not found or not yours`},
		"external addresses":  {"core/services", "metadata: {name: s}\nspec: {externalIPs: [192.0.2.1]}", "spec.externalIPs is not allowed"},
		"load balancer":       {"core/services", "metadata: {name: s}\nspec: {type: LoadBalancer}", "spec.type: LoadBalancer is not allowed"},
		"secret for all":      {"core/secrets", "metadata: {name: s, labels: {osn.infn.it/visible-to: project}}", "metadata.labels[osn.infn.it/visible-to]: secrets cannot be shown to the project"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.own(bob, "", "persistentvolumeclaims", "data-db-2")
			w.index.Put(&admission.Object{
				Key: key("networking.k8s.io", "ingresses", "bobs"), UID: "i", Owner: tenant.Owner{UserID: bob},
				References: []admission.Key{{Resource: key("networking.k8s.io", "ingress hosts", "").Resource, Name: "bob.example.org"}},
			})
			_, response := w.decide(t, request{by: user(alice), resource: test.resource, object: parse(t, test.object)})
			assert.Equal(t, test.want, refused(response))
		})
	}
}

// TestWhoMayAct is about requests without regard to what the object says.
func TestWhoMayAct(t *testing.T) {
	t.Parallel()
	stored := of(bob, parse(t, "metadata: {name: bobs, uid: secrets/bobs}"))
	deleting := of(bob, parse(t, "metadata: {name: bobs, uid: secrets/bobs, deletionTimestamp: \"2026-01-01T00:00:00Z\", finalizers: [a]}"))
	stranger := user(alice)
	stranger.Groups, stranger.Extra[tenant.ExtraProjectID] = []string{tenant.GroupAuthenticated, tenant.ProjectGroup("other")}, []string{"other"}
	account := func(name, uid string) (info request) {
		info.by = system("system:serviceaccount:" + name)
		info.by.UID, info.resource, info.object = uid, "core/configmaps", parse(t, "metadata: {name: c}")
		return info
	}
	for name, test := range map[string]struct {
		request
		want string
	}{
		"own":                   {request{by: user(bob), operation: admissionv1.Delete, resource: "core/secrets", old: stored}, ""},
		"delete":                {request{by: user(alice), operation: admissionv1.Delete, resource: "core/secrets", old: stored}, "secrets bobs: not found or not yours"},
		"A56 being deleted":     {request{by: user(alice), operation: admissionv1.Update, resource: "core/secrets", object: deleting, old: deleting}, "secrets bobs: not found or not yours"},
		"A55 status":            {request{by: user(alice), operation: admissionv1.Update, resource: "apps/deployments/status", object: stored, old: stored}, "deployments.apps bobs: not found or not yours"},
		"A55 finalize":          {request{by: user(alice), operation: admissionv1.Update, resource: "core/pods/resize", object: stored, old: stored}, "pods bobs: not found or not yours"},
		"A55 scale":             {request{by: user(alice), operation: admissionv1.Update, resource: "apps/deployments/scale", object: parse(t, "metadata: {name: bobs}"), old: parse(t, "metadata: {name: bobs}")}, "deployments.apps bobs: not found or not yours"},
		"A55 own scale":         {request{by: user(alice), operation: admissionv1.Update, resource: "apps/deployments/scale", object: parse(t, "metadata: {name: mine}"), old: parse(t, "metadata: {name: mine}")}, ""},
		"A24 exec":              {request{by: user(alice), operation: admissionv1.Connect, resource: "core/pods/exec", name: "bobs", object: object{}}, "pods bobs: not found or not yours"},
		"A24 own exec":          {request{by: user(alice), operation: admissionv1.Connect, resource: "core/pods/exec", name: "mine", object: object{}}, ""},
		"A25 proxy":             {request{by: user(alice), operation: admissionv1.Connect, resource: "core/services/proxy", name: "https:bobs:443", object: object{}}, "services https:bobs:443: not found or not yours"},
		"A25 own proxy":         {request{by: user(alice), operation: admissionv1.Connect, resource: "core/services/proxy", name: "http:mine:80", object: object{}}, ""},
		"A26 eviction":          {request{by: user(alice), resource: "core/pods/eviction", name: "bobs", object: object{}}, "pods bobs: not found or not yours"},
		"A27 binding":           {request{by: user(alice), resource: "core/pods/binding", name: "mine", object: object{}}, "only the scheduler binds pods to nodes; use nodeSelector kubernetes.io/hostname"},
		"A27 bindings":          {request{by: user(alice), resource: "core/bindings", name: "mine", object: object{}}, "only the scheduler binds pods to nodes; use nodeSelector kubernetes.io/hostname"},
		"A30 default's token":   {request{by: user(alice), resource: "core/serviceaccounts/token", name: "default", object: object{}}, "the ServiceAccount default is nobody's and has no tokens"},
		"A30 bob's token":       {request{by: user(alice), resource: "core/serviceaccounts/token", name: "bobs", object: object{}}, "serviceaccounts bobs: not found or not yours"},
		"A59 other namespace":   {account("other:mine", "serviceaccounts/mine"), "system:serviceaccount:other:mine may not change objects in the project namespace cms"},
		"A59 earlier account":   {account("cms:mine", "before"), "the ServiceAccount mine has no owner"},
		"default account":       {account("cms:default", "x"), "the ServiceAccount default is nobody's and has no rights"},
		"own account":           {account("cms:mine", "serviceaccounts/mine"), ""},
		"A62 other project":     {request{by: stranger, resource: "core/configmaps", object: parse(t, "metadata: {name: c}")}, alice + "@infn.it is not a member of the project of the namespace cms"},
		"unknown operator":      {request{by: system("system:serviceaccount:monitoring:agent"), resource: "core/configmaps", object: parse(t, "metadata: {name: c}")}, "system:serviceaccount:monitoring:agent may not change objects in the project namespace cms"},
		"mirror pod":            {request{by: system("system:node:n", "system:nodes"), resource: "core/pods", object: pod(t, "nodeName: node-1")}, "nodes cannot make pods in the namespace of a project: there are no static pods on its nodes"},
		"administrator":         {request{by: system("root", "system:masters"), resource: "core/pods", object: pod(t, "nodeName: node-1")}, ""},
		"system namespace":      {request{by: system("anybody"), namespace: "kube-system", resource: "core/pods", object: pod(t, "nodeName: node-1")}, ""},
		"pod of nobody":         {request{by: system("system:kube-controller-manager"), resource: "core/pods", object: pod(t, "")}, "no owner: nothing controls it, and it has no label osn.infn.it/userid"},
		"account by controller": {request{by: system("system:kube-controller-manager"), resource: "core/serviceaccounts", object: parse(t, "metadata: {name: default}")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, response := newWorld(t).decide(t, test.request)
			assert.Equal(t, test.want, refused(response))
		})
	}
}

// TestCannotTell refuses with another code than a decision.
func TestCannotTell(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(w *world) request{
		"not ready": func(w *world) request {
			w.ready = errUnreachable
			return request{by: user(alice), resource: "core/configmaps", object: parse(t, "metadata: {name: c}")}
		},
		"project's namespace is not known as one": func(w *world) request {
			w.index.PutNamespace(namespace, nil)
			return request{by: user(alice), resource: "core/configmaps", object: parse(t, "metadata: {name: c}")}
		},
		"lookup fails": func(w *world) request {
			w.lookup = func(admission.Key) (*admission.Object, error) { return nil, errUnreachable }
			return request{by: user(alice), resource: "core/pods", object: pod(t, "serviceAccountName: new")}
		},
		"unknown namespace": func(*world) request {
			return request{by: user(alice), namespace: "new", resource: "core/pods", object: pod(t, "")}
		},
		"unknown parent": func(*world) request {
			return request{by: system("system:kube-controller-manager"), resource: "core/pods", object: parse(t,
				"metadata: {name: p, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: new, uid: new, controller: true}]}\nspec: {}")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			_, response := w.decide(t, prepare(w))
			assert.Contains(t, refused(response), "cannot tell whether this is allowed: ")
			assert.EqualValues(t, 503, response.Result.Code)
		})
	}
}

// TestNamesakes have logged in under the names of whom the site trusts.
func TestNamesakes(t *testing.T) {
	t.Parallel()
	policy := tenant.DefaultPolicy()
	policy.TrustedUsers = append(policy.TrustedUsers, "prometheus")
	w := newWorldOf(t, policy, func(rules *admission.Rules) {
		rules.Controllers, rules.Schedulers = append(rules.Controllers, "argo"), append(rules.Schedulers, "volcano")
	})
	stored := of(bob, parse(t, "metadata: {name: bobs}"))
	for _, name := range []string{"prometheus", "argo", "volcano"} {
		binding := request{by: system(name), resource: "core/pods/binding", name: "bobs", object: parse(t, "metadata: {name: bobs}")}
		forged := request{by: system(name), resource: "core/configmaps", object: of(bob, parse(t, "metadata: {name: "+name+"}"))}
		deleted := request{by: system(name), operation: admissionv1.Delete, resource: "core/secrets", name: "bobs", old: stored}
		after, response := w.decide(t, forged)
		require.Empty(t, refused(response), name)
		assert.Equal(t, bob, labelsOf(after)[tenant.LabelUserID], "it makes objects for others")
		_, response = w.decide(t, deleted)
		assert.Empty(t, refused(response), name)

		forged.by = user(alice)
		forged.by.Username = name
		binding.by, deleted.by = forged.by, forged.by
		forged.object = of(bob, parse(t, "metadata: {name: namesake-"+name+"}"))
		after, response = w.decide(t, forged)
		require.Empty(t, refused(response), name)
		assert.Equal(t, alice, labelsOf(after)[tenant.LabelUserID])
		_, response = w.decide(t, deleted)
		assert.Equal(t, "secrets bobs: not found or not yours", refused(response))
		_, response = w.decide(t, binding)
		assert.Contains(t, refused(response), "only the scheduler binds pods")
	}
}

func ExampleRules() {
	rules := admission.DefaultRules()
	rules.PrivateNodes = "trusted"
	fmt.Println(rules.Validate())
	// Output: rules.privateNodes: "trusted": want baseline or privileged
}
