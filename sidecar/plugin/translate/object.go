// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/interlink"
)

// supply holds the objects of a request by name.
type supply struct {
	configMaps map[string]*corev1.ConfigMap
	secrets    map[string]*corev1.Secret
	projected  map[string]*corev1.ConfigMap
	// claims are what the origin knows of its claims, if it tells.
	claims map[string]*interlink.Claim
}

// collect indexes a request's objects. Objects of another namespace than the
// pod's are none of its own; old senders leave the namespace empty.
func collect(request *Request) supply {
	s := supply{
		configMaps: map[string]*corev1.ConfigMap{},
		secrets:    map[string]*corev1.Secret{},
		projected:  map[string]*corev1.ConfigMap{},
		claims:     map[string]*interlink.Claim{},
	}
	own := func(namespace string) bool { return namespace == "" || namespace == request.Pod.Namespace }
	for i := range request.ConfigMaps {
		if object := &request.ConfigMaps[i]; own(object.Namespace) {
			s.configMaps[object.Name] = object
		}
	}
	for i := range request.Secrets {
		if object := &request.Secrets[i]; own(object.Namespace) {
			s.secrets[object.Name] = object
		}
	}
	for i := range request.Projected {
		s.projected[request.Projected[i].Name] = &request.Projected[i]
	}
	for i := range request.Claims {
		s.claims[request.Claims[i].Name] = &request.Claims[i]
	}
	return s
}

// created holds the objects that the pod needs, by their new names.
type created struct {
	configMaps map[string]*corev1.ConfigMap
	secrets    map[string]*corev1.Secret
	claims     map[string]*corev1.PersistentVolumeClaim
}

func (c *created) addClaim(claim *corev1.PersistentVolumeClaim) {
	if c.claims == nil {
		c.claims = map[string]*corev1.PersistentVolumeClaim{}
	}
	c.claims[claim.Name] = claim
}

// claimList lists the claims by name and labels the pod with them.
func (c *created) claimList(pod map[string]string) []*corev1.PersistentVolumeClaim {
	var claims []*corev1.PersistentVolumeClaim
	for name, claim := range sorted(c.claims) {
		pod[LabelClaimPrefix+claim.Labels[LabelClaim]] = name
		claims = append(claims, claim)
	}
	return claims
}

func (c *created) objects(labels map[string]string) ([]*corev1.ConfigMap, []*corev1.Secret) {
	var configMaps []*corev1.ConfigMap
	for _, name := range slices.Sorted(maps.Keys(c.configMaps)) {
		c.configMaps[name].Labels = maps.Clone(labels)
		configMaps = append(configMaps, c.configMaps[name])
	}
	var secrets []*corev1.Secret
	for _, name := range slices.Sorted(maps.Keys(c.secrets)) {
		c.secrets[name].Labels = maps.Clone(labels)
		secrets = append(secrets, c.secrets[name])
	}
	return configMaps, secrets
}

func (c *created) addSecret(secret *corev1.Secret) {
	if c.secrets == nil {
		c.secrets = map[string]*corev1.Secret{}
	}
	c.secrets[secret.Name] = secret
}

// left tells that nothing came with the pod for an optional reference, which is then
// left out: a name without an object could become somebody else's object in the target
// cluster, and clusters that keep tenants apart refuse it.
func (t *translation) left(found, optional bool, kind, name, at string) bool {
	if found || !optional {
		return false
	}
	t.dropped(at, fmt.Sprintf("the %s %s is optional and was not supplied with the pod", kind, name))
	return true
}

func (t *translation) hasConfigMap(name string) bool { return t.supplied.configMaps[name] != nil }

func (t *translation) hasSecret(name string) bool { return t.supplied.secrets[name] != nil }

// configMap returns the new name of a ConfigMap and has it copied once, however
// many containers use it.
func (t *translation) configMap(name string, optional bool, at string) string {
	target := withHash(name, digest(t.identity, "ConfigMap", name))
	from, found := t.supplied.configMaps[name]
	if !found {
		t.absent("ConfigMap", name, optional, at)
		return target
	}
	if t.created.configMaps == nil {
		t.created.configMaps = map[string]*corev1.ConfigMap{}
	}
	t.created.configMaps[target] = &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: target, Annotations: t.objectAnnotations(name)},
		Data:       from.Data, BinaryData: from.BinaryData, Immutable: from.Immutable,
	}
	return target
}

// secret is configMap for Secrets.
func (t *translation) secret(name string, optional bool, at string) string {
	target := withHash(name, digest(t.identity, "Secret", name))
	from, found := t.supplied.secrets[name]
	if !found {
		t.absent("Secret", name, optional, at)
		return target
	}
	t.created.addSecret(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: target, Annotations: t.objectAnnotations(name)},
		Data:       from.Data, StringData: from.StringData, Immutable: from.Immutable, Type: t.secretType(name, from.Type),
	})
	return target
}

// secretType turns types into Opaque that controllers of the target cluster would
// act upon: they would fill or collect the Secret.
func (t *translation) secretType(name string, from corev1.SecretType) corev1.SecretType {
	if from != corev1.SecretTypeServiceAccountToken && from != corev1.SecretTypeBootstrapToken {
		return from
	}
	if _, known := t.created.secrets[withHash(name, digest(t.identity, "Secret", name))]; !known {
		t.mapped(fmt.Sprintf("secret %s.type", name), string(from)+" to Opaque")
	}
	return corev1.SecretTypeOpaque
}

func (t *translation) absent(kind, name string, optional bool, at string) {
	if optional || t.update {
		return
	}
	entry := fmt.Sprintf("%s %s/%s (%s)", kind, t.pod.Namespace, name, at)
	if !slices.Contains(t.missing, entry) {
		t.missing = append(t.missing, entry)
	}
}

func (t *translation) objectAnnotations(name string) map[string]string {
	return map[string]string{AnnotationNamespace: t.pod.Namespace, AnnotationName: name}
}

// pullSecrets keeps those that came along: the kubelet goes on without the others.
func (t *translation) pullSecrets(from []corev1.LocalObjectReference) []corev1.LocalObjectReference {
	var kept []corev1.LocalObjectReference
	for _, reference := range from {
		if _, found := t.supplied.secrets[reference.Name]; !found {
			t.dropped(fmt.Sprintf("spec.imagePullSecrets[%s]", reference.Name), "the Secret was not supplied with the pod")
			continue
		}
		kept = append(kept, corev1.LocalObjectReference{Name: t.secret(reference.Name, true, "spec.imagePullSecrets")})
	}
	return kept
}
