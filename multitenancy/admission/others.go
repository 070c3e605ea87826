// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// mostClaims bounds how many of a StatefulSet's claims are looked for.
const mostClaims = 200

// checkOthers has the rules for kinds besides workloads, and for what workloads have
// besides pods.
func (a *Admitter) checkOthers(ctx context.Context, r *review, owner string) {
	switch r.resource.Group + "/" + r.resource.Resource {
	case "/services":
		a.checkService(r)
	case "/secrets":
		checkSecret(r)
	case "batch/jobs", "batch/cronjobs":
		checkJob(r)
	case "networking.k8s.io/ingresses":
		a.checkIngress(r, owner)
	case "apps/statefulsets":
		a.checkClaims(r, owner)
	}
	references, unknown := ObjectReferences(r.resource, r.object)
	for _, path := range unknown {
		r.refuse("%s: cannot be referred to from here", path)
	}
	if r.old != nil {
		old, _ := ObjectReferences(r.resource, r.old)
		references = added(references, old)
	}
	if r.resource == claims && r.actor.trusted() && r.Operation == admissionv1.Update {
		return // the binder writes the volume that it found
	}
	want := ifThere
	switch r.resource.Group + "/" + r.resource.Resource {
	case "/persistentvolumeclaims":
		want = mustExist
	case "/serviceaccounts", "apps/statefulsets":
		want = ifKnown
	}
	a.checkReferences(ctx, r, references, owner, want)
}

func (a *Admitter) checkService(r *review) {
	if len(child(r.object, "spec")) == 0 {
		return
	}
	if kind := text(r.object, "spec", "type"); kind != "" && !slices.Contains(a.rules.ServiceTypes, kind) && kind != text(r.old, "spec", "type") {
		r.refuse("spec.type: %s is not allowed", kind)
	}
	if addresses, _ := child(r.object, "spec")["externalIPs"].([]any); len(addresses) > 0 {
		r.refuse("spec.externalIPs is not allowed")
	}
}

func checkSecret(r *review) {
	if r.actor.role == roleTenant && r.Operation == admissionv1.Create && text(r.object, "type") == string(corev1.SecretTypeServiceAccountToken) {
		r.refuse("type: a Secret of type %s is not allowed; use kubectl create token", corev1.SecretTypeServiceAccountToken)
	}
}

func checkJob(r *review) {
	path := []string{"spec"}
	if r.resource.Resource == "cronjobs" {
		path = []string{"spec", "jobTemplate", "spec"}
	}
	if manual, _ := child(r.object, path...)["manualSelector"].(bool); manual {
		r.refuse("%s.manualSelector is not allowed", strings.Join(path, "."))
	}
}

// checkIngress keeps names on the network for whom has them, and annotations from
// configuring the proxy that all share.
func (a *Admitter) checkIngress(r *review, owner string) {
	for key := range textMap(r.object, "metadata", "annotations") {
		if _, had := textMap(r.old, "metadata", "annotations")[key]; !had && !a.ingressAnnotation(key) {
			r.refuse("metadata.annotations[%s] is not allowed", key)
		}
	}
	references, _ := ObjectReferences(r.resource, r.object)
	for _, host := range references {
		if host.Resource == ingressHosts && a.index.Referrer(Key{Resource: ingressHosts, Name: host.Name}, owner) != nil {
			r.refuse("%s: %s is served for somebody else", host.Path, host.Name)
		}
	}
}

func (a *Admitter) ingressAnnotation(key string) bool {
	domain, _, qualified := strings.Cut(key, "/")
	if !qualified || domain == "kubectl.kubernetes.io" || reserved(key) || !strings.Contains(key, "ingress") && !proxyDomain(domain) {
		return true
	}
	return slices.ContainsFunc(a.rules.IngressAnnotations, func(allowed string) bool {
		return key == allowed || (strings.HasSuffix(allowed, "/") && strings.HasPrefix(key, allowed))
	})
}

// proxyDomain tells that a proxy reads annotations of that domain.
func proxyDomain(domain string) bool {
	return slices.ContainsFunc([]string{"nginx", "traefik", "haproxy", "kong", "contour", "istio", "envoy", "cert-manager", "external-dns", "alpha"},
		func(name string) bool { return strings.Contains(domain, name) })
}

// checkClaims refuses a StatefulSet whose pods would use claims of somebody else: the
// controller takes what has the right name.
func (a *Admitter) checkClaims(r *review, owner string) {
	replicas, set := child(r.object, "spec")["replicas"].(int64)
	if !set {
		replicas = 1
	}
	start, _ := child(r.object, "spec", "ordinals")["start"].(int64)
	for _, claim := range list(r.object, "spec", "volumeClaimTemplates") {
		for ordinal := range min(replicas, mostClaims) {
			name := text(claim, "metadata", "name") + "-" + r.Name + "-" + strconv.FormatInt(start+ordinal, 10)
			found := a.index.Find(Key{Resource: claims, Namespace: r.Namespace, Name: name})
			if found != nil && found.Owner.UserID != owner {
				r.refuse("spec.volumeClaimTemplates: the claim %s is not yours", name)
			}
		}
	}
}

// ObjectReferences are what objects other than pods have controllers read or change by
// name. unknown names references that leave the namespace or cannot be understood.
func ObjectReferences(resource schema.GroupResource, object fields) (references []Reference, unknown []string) {
	v := &visitor{}
	switch resource.Group + "/" + resource.Resource {
	case "/persistentvolumeclaims":
		v.typedClaim(child(object, "spec"), "spec")
	case "apps/statefulsets":
		for i, claim := range list(object, "spec", "volumeClaimTemplates") {
			v.typedClaim(child(claim, "spec"), fmt.Sprintf("spec.volumeClaimTemplates[%d].spec", i))
		}
	case "/serviceaccounts":
		for _, field := range []string{"secrets", "imagePullSecrets"} {
			for i, secret := range list(object, field) {
				v.add(secrets, text(secret, "name"), fmt.Sprintf("%s[%d]", field, i))
			}
		}
	case "networking.k8s.io/ingresses", "extensions/ingresses":
		v.ingress(child(object, "spec"))
	default:
		v.generic(resource, object)
	}
	return v.references, v.unknown
}

func (v *visitor) typedClaim(spec fields, path string) {
	decoded := &corev1.PersistentVolumeClaimSpec{}
	if err := strictly(spec, decoded); err != nil {
		v.unknown = append(v.unknown, path)
		return
	}
	v.claim(decoded, path)
}

func (v *visitor) ingress(spec fields) {
	v.backend(child(spec, "defaultBackend"), "spec.defaultBackend")
	for i, tls := range list(spec, "tls") {
		v.add(secrets, text(tls, "secretName"), fmt.Sprintf("spec.tls[%d].secretName", i))
	}
	for i, rule := range list(spec, "rules") {
		at := fmt.Sprintf("spec.rules[%d]", i)
		if host := text(rule, "host"); host != "" {
			v.references = append(v.references, Reference{Resource: ingressHosts, Name: host, Path: at + ".host", Later: true})
		}
		for j, path := range list(rule, "http", "paths") {
			v.backend(child(path, "backend"), fmt.Sprintf("%s.http.paths[%d].backend", at, j))
		}
	}
}

func (v *visitor) backend(backend fields, path string) {
	v.add(services, text(backend, "service", "name"), path+".service")
	if object := child(backend, "resource"); object != nil {
		v.dataSource(text(object, "apiGroup"), text(object, "kind"), "", text(object, "name"), path+".resource")
	}
}

// generic reads the references that kinds of several groups have under the same name:
// autoscalers' targets and metrics, and routes' backends.
func (v *visitor) generic(resource schema.GroupResource, object fields) {
	spec := child(object, "spec")
	for _, field := range []string{"scaleTargetRef", "targetRef"} {
		if target := child(spec, field); target != nil {
			v.target(target, "spec."+field)
		}
	}
	for i, metric := range list(spec, "metrics") {
		if target := child(metric, "object", "describedObject"); target != nil {
			v.target(target, fmt.Sprintf("spec.metrics[%d].object.describedObject", i))
		}
	}
	if resource.Group == "gateway.networking.k8s.io" {
		v.routes(spec, "spec")
	}
}

func (v *visitor) target(target fields, path string) {
	version, err := schema.ParseGroupVersion(text(target, "apiVersion"))
	if err != nil {
		v.unknown = append(v.unknown, path)
		return
	}
	group := version.Group
	if given := text(target, "group"); given != "" {
		group = given
	}
	v.dataSource(group, text(target, "kind"), text(target, "namespace"), text(target, "name"), path)
}

// routes finds the backends in all the places where routes have them.
func (v *visitor) routes(value any, path string) {
	switch value := value.(type) {
	case fields:
		for key, inner := range value {
			if strings.HasSuffix(key, "ackendRef") {
				v.route(inner, path+"."+key)
			}
			v.routes(inner, path+"."+key)
		}
	case []any:
		for i, inner := range value {
			at := fmt.Sprintf("%s[%d]", path, i)
			if strings.HasSuffix(path, "ackendRefs") {
				v.route(inner, at)
			}
			v.routes(inner, at)
		}
	}
}

func (v *visitor) route(value any, path string) {
	backend, ok := value.(fields)
	if !ok {
		return
	}
	kind := text(backend, "kind")
	if kind == "" {
		kind = "Service"
	}
	v.dataSource(text(backend, "group"), kind, text(backend, "namespace"), text(backend, "name"), path)
}
