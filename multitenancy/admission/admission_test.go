// SPDX-License-Identifier: Apache-2.0

package admission_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/multitenancy/admission"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	project   = "55158de200964f7c8aa5ca486e6cb7ea"
	namespace = "cms"
	alice     = "a11ce000000000000000000000000001"
	bob       = "b0b00000000000000000000000000002"
	pool      = "osn.infn.it.node-restriction.kubernetes.io/pool"
)

type object = map[string]any

// world is a webhook with an index that a test fills.
type world struct {
	*admission.Admitter

	index  *admission.Index
	nodes  *admission.Nodes
	now    time.Time
	ready  error
	lookup func(key admission.Key) (*admission.Object, error)
}

// Lookup is the API server behind the index.
func (w *world) Lookup(_ context.Context, key admission.Key) (*admission.Object, error) {
	if w.lookup == nil {
		return nil, nil
	}
	return w.lookup(key)
}

func newWorld(tb testing.TB, change ...func(rules *admission.Rules)) *world {
	tb.Helper()
	return newWorldOf(tb, tenant.DefaultPolicy(), change...)
}

func newWorldOf(tb testing.TB, policy tenant.Policy, change ...func(rules *admission.Rules)) *world {
	tb.Helper()
	w := &world{nodes: admission.NewNodes(), now: time.Unix(1_800_000_000, 0)}
	w.index = admission.NewIndex(2*time.Minute, func() time.Time { return w.now })
	rules := admission.DefaultRules()
	for _, one := range change {
		one(&rules)
	}
	made, err := admission.New(admission.Config{
		Index: w.index, Nodes: w.nodes, Lookup: w, Policy: policy, Rules: &rules,
		Ready: func(context.Context, schema.GroupResource) error { return w.ready }, Metrics: prometheus.NewRegistry(),
	})
	require.NoError(tb, err)
	w.Admitter = made
	w.index.PutNamespace(namespace, map[string]string{tenant.LabelProjectID: project, tenant.LabelProjectName: "CMS"})
	w.index.PutNamespace("kube-system", nil)
	for _, name := range []string{"secrets", "configmaps", "persistentvolumeclaims", "serviceaccounts", "services", "pods"} {
		w.own(bob, "", name, "bobs")
		w.own(alice, "", name, "mine")
	}
	w.own(bob, "apps", "deployments", "bobs")
	w.own(alice, "apps", "deployments", "mine")
	w.own(alice, "apps", "replicasets", "mine")
	w.nodes.Put("alice-1", "u-"+alice, true)
	return w
}

// own makes an object of somebody; its UID is its name with its kind.
func (w *world) own(owner, group, resource, name string) {
	w.index.Put(&admission.Object{
		Key: key(group, resource, name), UID: types.UID(resource + "/" + name),
		Owner: tenant.Owner{UserID: owner, VisibleTo: owner}, OwnerName: "owner-of-" + name,
	})
}

func key(group, resource, name string) admission.Key {
	return admission.Key{Resource: schema.GroupResource{Group: group, Resource: resource}, Namespace: namespace, Name: name}
}

func user(id string) authenticationv1.UserInfo {
	return authenticationv1.UserInfo{
		Username: id + "@infn.it", UID: id, Groups: []string{"system:authenticated", tenant.GroupAuthenticated, tenant.ProjectGroup(project)},
		Extra: map[string]authenticationv1.ExtraValue{
			tenant.ExtraUserID: {id}, tenant.ExtraUserName: {"who@infn.it"}, tenant.ExtraProjectID: {project}, tenant.ExtraProjectName: {"CMS"},
		},
	}
}

func system(name string, groups ...string) authenticationv1.UserInfo {
	return authenticationv1.UserInfo{Username: name, Groups: groups}
}

// resource names what a request is about, as group/resource or group/resource/subresource;
// Kubernetes' oldest group is core.
type request struct {
	by          authenticationv1.UserInfo
	operation   admissionv1.Operation
	resource    string
	namespace   string
	object, old object
	name        string
}

func (r request) review(tb testing.TB) *admissionv1.AdmissionRequest {
	tb.Helper()
	parts := strings.Split(r.resource, "/")
	group := parts[0]
	if group == "core" {
		group = ""
	}
	made := &admissionv1.AdmissionRequest{
		UID: "review", Operation: r.operation, UserInfo: r.by, Namespace: r.namespace, Name: r.name,
		Resource: metav1.GroupVersionResource{Group: group, Version: "v1", Resource: parts[1]},
	}
	if len(parts) > 2 {
		made.SubResource = parts[2]
	}
	if made.Operation == "" {
		made.Operation = admissionv1.Create
	}
	if made.Namespace == "" {
		made.Namespace = namespace
	}
	made.Object, made.OldObject = raw(tb, r.object), raw(tb, r.old)
	for _, from := range []object{r.object, r.old} {
		if metadata, ok := from["metadata"].(object); ok && made.Name == "" {
			made.Name, _ = metadata["name"].(string)
		}
	}
	return made
}

func raw(tb testing.TB, from object) runtime.RawExtension {
	tb.Helper()
	if from == nil {
		return runtime.RawExtension{}
	}
	content, err := json.Marshal(from)
	require.NoError(tb, err)
	return runtime.RawExtension{Raw: content}
}

// parse reads an object in YAML.
func parse(tb testing.TB, text string) object {
	tb.Helper()
	var made object
	require.NoError(tb, yaml.Unmarshal([]byte(text), &made))
	return made
}

// mutated is the object as the mutating half makes it.
func (w *world) mutated(tb testing.TB, r request) (object, *admissionv1.AdmissionResponse) {
	tb.Helper()
	response, err := w.Mutate(tb.Context(), r.review(tb))
	require.NoError(tb, err)
	return patched(tb, r.object, response.Patch), response
}

// decide sends a request through both halves, as an API server does.
func (w *world) decide(tb testing.TB, r request) (object, *admissionv1.AdmissionResponse) {
	tb.Helper()
	after, response := w.mutated(tb, r)
	if !response.Allowed {
		return after, response
	}
	r.object = after
	response, err := w.Validate(tb.Context(), r.review(tb))
	require.NoError(tb, err)
	return after, response
}

// refused is the message, and empty when the request is allowed.
func refused(response *admissionv1.AdmissionResponse) string {
	if response.Allowed {
		return ""
	}
	return response.Result.Message
}

// patched applies the operations that this webhook uses.
func patched(tb testing.TB, from object, patch []byte) object {
	tb.Helper()
	if from == nil {
		return nil
	}
	content, err := json.Marshal(from)
	require.NoError(tb, err)
	var made object
	require.NoError(tb, json.Unmarshal(content, &made))
	if patch == nil {
		return made
	}
	var operations []struct {
		Op, Path string
		Value    any
	}
	require.NoError(tb, json.Unmarshal(patch, &operations))
	for _, one := range operations {
		steps := strings.Split(strings.TrimPrefix(one.Path, "/"), "/")
		for i := range steps {
			steps[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(steps[i])
		}
		at := made
		for _, step := range steps[:len(steps)-1] {
			next, ok := at[step].(object)
			require.True(tb, ok, "path %s", one.Path)
			at = next
		}
		last := steps[len(steps)-1]
		_, exists := at[last]
		require.Equal(tb, one.Op != "add", exists, "%s %s", one.Op, one.Path)
		if one.Op == "remove" {
			delete(at, last)
		} else {
			at[last] = one.Value
		}
	}
	return made
}

func labelsOf(from object, path ...string) map[string]string {
	for _, step := range append(path, "metadata", "labels") {
		from, _ = from[step].(object)
	}
	found := map[string]string{}
	for label, value := range from {
		found[label], _ = value.(string)
	}
	return found
}

// marked are the labels of an owner's object.
func marked(owner string) object {
	return object{
		tenant.LabelUserID: owner, tenant.LabelUserName: "who-at-infn.it", tenant.LabelProjectID: project,
		tenant.LabelProjectName: "CMS", tenant.LabelVisibleTo: owner,
	}
}

// of marks an object as somebody's.
func of(owner string, from object) object {
	made := maps.Clone(from)
	metadata := object{}
	if given, ok := from["metadata"].(object); ok {
		metadata = maps.Clone(given)
	}
	labels := marked(owner)
	if given, ok := metadata["labels"].(object); ok {
		for label, value := range given {
			if _, ours := labels[label]; !ours {
				labels[label] = value
			}
		}
	}
	metadata["labels"] = labels
	made["metadata"] = metadata
	return made
}

var errUnreachable = errors.New("connection refused")
