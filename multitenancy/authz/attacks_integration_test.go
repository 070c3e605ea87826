// SPDX-License-Identifier: Apache-2.0

//go:build integration

package authz_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	core  = "/api/v1/namespaces/cms/"
	apps  = "/apis/apps/v1/namespaces/cms/"
	mine  = "osn.infn.it%2Fuserid%3D" + alice
	his   = "osn.infn.it%2Fuserid%3D" + bob
	apply = "application/apply-patch+yaml"
	merge = "application/merge-patch+json"
)

// testPolicy has one custom kind that tenants may use, widgets; gadgets they may not.
func testPolicy(t *testing.T) tenant.Policy {
	t.Helper()
	policy, err := tenant.ParsePolicy([]byte("resources:\n- {group: example.org, resources: [widgets], class: owned}\n"))
	require.NoError(t, err)
	return policy
}

func meta(name, owner string) metav1.ObjectMeta {
	object := metav1.ObjectMeta{Name: name, Namespace: space}
	if owner != "" {
		object.Labels = tenant.Mark{UserID: owner, UserName: owner, Project: tenant.Project{ID: project, Name: "CMS"}}.Labels()
		object.Labels["app"] = "web"
	}
	return object
}

// populate gives Alice and Bob the same objects, theirs ending in -a and -b.
func (s *site) populate() {
	s.t.Helper()
	ctx, client, opts := s.t.Context(), s.Client(), metav1.CreateOptions{}
	for name, id := range map[string]string{space: project, elsewhere: other} {
		_, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{tenant.LabelProjectID: id}}}, opts)
		require.NoError(s.t, err)
	}
	_, err := client.CoreV1().ServiceAccounts(space).Create(ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, opts)
	require.NoError(s.t, err)
	for suffix, owner := range map[string]string{"a": alice, "b": bob, "system": ""} {
		_, err := client.CoreV1().Secrets(space).Create(ctx, &corev1.Secret{ObjectMeta: meta("s-"+suffix, owner), StringData: map[string]string{"of": suffix}}, opts)
		require.NoError(s.t, err)
		_, err = client.CoreV1().ConfigMaps(space).Create(ctx, &corev1.ConfigMap{ObjectMeta: meta("c-"+suffix, owner), Data: map[string]string{"of": suffix}}, opts)
		require.NoError(s.t, err)
		_, err = client.CoreV1().ServiceAccounts(space).Create(ctx, &corev1.ServiceAccount{ObjectMeta: meta("sa-"+suffix, owner)}, opts)
		require.NoError(s.t, err)
		_, err = client.CoreV1().Pods(space).Create(ctx, &corev1.Pod{
			ObjectMeta: meta("p-"+suffix, owner),
			Spec:       corev1.PodSpec{ServiceAccountName: "sa-" + suffix, Containers: []corev1.Container{{Name: "main", Image: "example.org/image"}}},
		}, opts)
		require.NoError(s.t, err)
		_, err = client.CoreV1().Services(space).Create(ctx, &corev1.Service{ObjectMeta: meta("svc-"+suffix, owner), Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 443}}}}, opts)
		require.NoError(s.t, err)
		_, err = client.CoreV1().Events(space).Create(ctx, &corev1.Event{ObjectMeta: meta("e-"+suffix, owner), InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: space, Name: "p-" + suffix}}, opts)
		require.NoError(s.t, err)
		_, err = client.AppsV1().Deployments(space).Create(ctx, &appsv1.Deployment{ObjectMeta: meta("d-"+suffix, owner), Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"d": suffix}},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"d": suffix}}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "example.org/image"}}}},
		}}, opts)
		require.NoError(s.t, err)
		_, err = client.AutoscalingV2().HorizontalPodAutoscalers(space).Create(ctx, &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: meta("h-"+suffix, owner), Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			MaxReplicas: 2, ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "d-" + suffix},
		}}, opts)
		require.NoError(s.t, err)
	}
}

// define makes a custom kind and waits until it is served.
func (s *site) define(plural, kind string) {
	s.t.Helper()
	client, err := apiextensions.NewForConfig(s.RESTConfig())
	require.NoError(s.t, err)
	_, err = client.ApiextensionsV1().CustomResourceDefinitions().Create(s.t.Context(), &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: plural + ".example.org"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: "example.org", Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: plural, Singular: strings.ToLower(kind), Kind: kind, ListKind: kind + "List"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{Name: "v1", Served: true, Storage: true, Schema: &apiextensionsv1.CustomResourceValidation{
				OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object", XPreserveUnknownFields: new(true)},
			}}},
		},
	}, metav1.CreateOptions{})
	require.NoError(s.t, err)
	for suffix, owner := range map[string]string{"a": alice, "b": bob} {
		require.EventuallyWithT(s.t, func(c *assert.CollectT) {
			body := fmt.Sprintf(`{"apiVersion":"example.org/v1","kind":%q,"metadata":{"name":"w-%s","labels":{"osn.infn.it/userid":%q}}}`, kind, suffix, owner)
			err := s.Client().RESTClient().Post().AbsPath("/apis/example.org/v1/namespaces/" + space + "/" + plural).Body([]byte(body)).Do(s.t.Context()).Error()
			assert.NoError(c, err)
		}, soon, tick)
	}
}

// attack is a request that has to be denied by the webhook, and the same on the attacker's own, which must not be.
type attack struct {
	method, path, body string
	headers            []string
	// own is the path of the control, and ownBody its body; by default -b becomes -a.
	own, ownBody string
	// hopeless attacks have no control: nobody may do it.
	hopeless bool
}

func attacks() map[string]attack {
	get, post, put, patch, remove := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete
	merged := []string{"Content-Type", merge}
	return map[string]attack{
		"A1 get secret":                    {method: get, path: core + "secrets/s-b"},
		"A1 get configmap":                 {method: get, path: core + "configmaps/c-b"},
		"A1 get pod":                       {method: get, path: core + "pods/p-b"},
		"A1 get the system's":              {method: get, path: core + "secrets/s-system", own: core + "secrets/s-a"},
		"A2 get nothing":                   {method: get, path: core + "secrets/nothing", own: core + "secrets/s-a"},
		"A3 list":                          {method: get, path: core + "secrets", own: core + "secrets?labelSelector=" + mine},
		"A4 list Bob's":                    {method: get, path: core + "secrets?labelSelector=" + his, own: core + "secrets?labelSelector=" + mine},
		"A5 list both":                     {method: get, path: core + "secrets?labelSelector=osn.infn.it%2Fuserid%20in%20(" + alice + "," + bob + ")", own: core + "secrets?labelSelector=osn.infn.it%2Fuserid%20in%20(" + alice + ")"},
		"A6 not equal":                     {method: get, path: core + "secrets?labelSelector=osn.infn.it%2Fuserid!%3Dx", hopeless: true},
		"A6 exists":                        {method: get, path: core + "secrets?labelSelector=osn.infn.it%2Fuserid", hopeless: true},
		"A6 does not exist":                {method: get, path: core + "secrets?labelSelector=!osn.infn.it%2Fuserid", hopeless: true},
		"A8 empty selector first":          {method: get, path: core + "secrets?labelSelector=&labelSelector=" + mine, own: core + "secrets?labelSelector=" + mine},
		"A9 malformed selector":            {method: get, path: core + "secrets?labelSelector=" + mine + ",((", own: core + "secrets?labelSelector=" + mine},
		"A9 wrong case":                    {method: get, path: core + "secrets?LabelSelector=" + mine, own: core + "secrets?labelSelector=" + mine},
		"A10 by field":                     {method: get, path: core + "secrets?fieldSelector=metadata.name%3Ds-b", own: core + "secrets?fieldSelector=metadata.name%3Ds-a&labelSelector=" + mine},
		"A12 old watch":                    {method: get, path: "/api/v1/watch/namespaces/cms/secrets?timeoutSeconds=1", hopeless: true},
		"A12 old watch with selector":      {method: get, path: "/api/v1/watch/namespaces/cms/secrets?timeoutSeconds=1&labelSelector=" + mine, own: core + "secrets?watch=1&timeoutSeconds=1&labelSelector=" + mine},
		"A12 old watch of one":             {method: get, path: "/api/v1/watch/namespaces/cms/secrets/s-b?timeoutSeconds=1", hopeless: true},
		"A13 watch by get":                 {method: get, path: core + "secrets/s-b?watch=true&timeoutSeconds=1"},
		"A14 all namespaces":               {method: get, path: "/api/v1/secrets?labelSelector=" + mine, own: core + "secrets?labelSelector=" + mine},
		"A15 delete all":                   {method: remove, path: core + "secrets", hopeless: true},
		"A15 delete what is visible":       {method: remove, path: core + "configmaps?labelSelector=osn.infn.it%2Fvisible-to%20in%20(" + alice + ",project)", hopeless: true},
		"A17 put":                          {method: put, path: core + "configmaps/c-b?dryRun=All", body: `{"metadata":{"name":"c-b"}}`, ownBody: `{"metadata":{"name":"c-a"}}`},
		"A17 patch":                        {method: patch, path: core + "configmaps/c-b", body: `{"data":{"x":"y"}}`, headers: merged},
		"A17 patch that asks":              {method: patch, path: core + "secrets/s-b", body: `[{"op":"test","path":"/data/of","value":"Yg=="}]`, headers: []string{"Content-Type", "application/json-patch+json"}},
		"A17 delete":                       {method: remove, path: core + "secrets/s-b?dryRun=All"},
		"A19 apply":                        {method: patch, path: core + "configmaps/c-b?fieldManager=x", body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c-b"}}`, ownBody: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c-a"}}`, headers: []string{"Content-Type", apply}},
		"A19 apply by force":               {method: patch, path: core + "configmaps/c-b?fieldManager=x&force=true", body: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c-b"}}`, ownBody: `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c-a"}}`, headers: []string{"Content-Type", apply}},
		"A23 encoded":                      {method: get, path: core + "%73ecrets/s-b"},
		"A23 trailing slash":               {method: get, path: core + "secrets/s-b/"},
		"A23 unknown subresource":          {method: get, path: core + "secrets/s-b/evil", hopeless: true},
		"A24 log":                          {method: get, path: core + "pods/p-b/log"},
		"A24 exec by POST":                 {method: post, path: core + "pods/p-b/exec?command=id&stdout=1"},
		"A24 exec by GET":                  {method: get, path: core + "pods/p-b/exec?command=id&stdout=1"},
		"A24 attach":                       {method: post, path: core + "pods/p-b/attach?stdout=1"},
		"A24 portforward":                  {method: post, path: core + "pods/p-b/portforward"},
		"A25 pod proxy":                    {method: get, path: core + "pods/http:p-b:80/proxy/"},
		"A25 pod proxy with path":          {method: post, path: core + "pods/p-b:80/proxy/a/b"},
		"A25 service proxy":                {method: get, path: core + "services/https:svc-b:443/proxy/"},
		"A26 eviction":                     {method: post, path: core + "pods/p-b/eviction?dryRun=All", body: `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p-b"}}`, ownBody: `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p-a"}}`},
		"A27 bindings":                     {method: post, path: core + "bindings", body: `{"metadata":{"name":"p-a"},"target":{"name":"n"}}`, hopeless: true},
		"A27 pods/binding":                 {method: post, path: core + "pods/p-a/binding", body: `{"metadata":{"name":"p-a"},"target":{"name":"n"}}`, hopeless: true},
		"A29 impersonate a user":           {method: get, path: core + "secrets/s-a", headers: []string{"Impersonate-User", "bob"}, hopeless: true},
		"A29 impersonate a group":          {method: get, path: core + "secrets/s-a", headers: []string{"Impersonate-User", "bob", "Impersonate-Group", "system:masters"}, hopeless: true},
		"A29 impersonate an account":       {method: get, path: core + "secrets/s-a", headers: []string{"Impersonate-User", "system:serviceaccount:cms:sa-a"}, hopeless: true},
		"A29 impersonate by extra":         {method: get, path: core + "secrets/s-a", headers: []string{"Impersonate-User", "bob", "Impersonate-Extra-Osn.infn.it%2fuserid", bob}, hopeless: true},
		"A30 token of default":             {method: post, path: core + "serviceaccounts/default/token", body: `{}`, own: core + "serviceaccounts/sa-a/token"},
		"A30 token of Bob's":               {method: post, path: core + "serviceaccounts/sa-b/token", body: `{}`},
		"A43 create EndpointSlice":         {method: post, path: "/apis/discovery.k8s.io/v1/namespaces/cms/endpointslices", body: `{}`, hopeless: true},
		"A43 edit Endpoints":               {method: patch, path: core + "endpoints/svc-a", body: `{}`, headers: merged, hopeless: true},
		"A47 RoleBinding":                  {method: post, path: "/apis/rbac.authorization.k8s.io/v1/namespaces/cms/rolebindings", body: `{}`, hopeless: true},
		"A47 Role":                         {method: post, path: "/apis/rbac.authorization.k8s.io/v1/namespaces/cms/roles", body: `{}`, hopeless: true},
		"A47 ClusterRoleBinding":           {method: post, path: "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", body: `{}`, hopeless: true},
		"A48 webhook":                      {method: post, path: "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", body: `{}`, hopeless: true},
		"A48 policy":                       {method: post, path: "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies", body: `{}`, hopeless: true},
		"A48 CRD":                          {method: post, path: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", body: `{}`, hopeless: true},
		"A48 CSR":                          {method: post, path: "/apis/certificates.k8s.io/v1/certificatesigningrequests", body: `{}`, hopeless: true},
		"A48 PriorityClass":                {method: post, path: "/apis/scheduling.k8s.io/v1/priorityclasses", body: `{}`, own: "/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical", hopeless: true},
		"A55 status":                       {method: patch, path: core + "pods/p-b/status", body: `{"metadata":{"labels":{"x":"y"}}}`, headers: merged},
		"A55 scale":                        {method: patch, path: apps + "deployments/d-b/scale", body: `{"spec":{"replicas":0}}`, headers: merged},
		"A55 resize":                       {method: patch, path: core + "pods/p-b/resize", body: `{"metadata":{"labels":{"x":"y"}}}`, headers: merged},
		"A55 finalize":                     {method: put, path: "/api/v1/namespaces/cms/finalize", body: `{}`, hopeless: true},
		"A57 HPA v1":                       {method: get, path: "/apis/autoscaling/v1/namespaces/cms/horizontalpodautoscalers/h-b"},
		"A57 HPA v2":                       {method: get, path: "/apis/autoscaling/v2/namespaces/cms/horizontalpodautoscalers/h-b"},
		"A57 event v1":                     {method: get, path: core + "events/e-b"},
		"A57 event of events.k8s.io":       {method: get, path: "/apis/events.k8s.io/v1/namespaces/cms/events/e-b"},
		"A58 kind that is not enabled":     {method: get, path: "/apis/example.org/v1/namespaces/cms/gadgets?labelSelector=" + mine, own: "/apis/example.org/v1/namespaces/cms/widgets?labelSelector=" + mine},
		"A58 get of an enabled kind":       {method: get, path: "/apis/example.org/v1/namespaces/cms/widgets/w-b"},
		"A62 namespace of another project": {method: get, path: "/api/v1/namespaces/qst/secrets?labelSelector=" + mine, own: core + "secrets?labelSelector=" + mine},
		"A62 the other Namespace":          {method: get, path: "/api/v1/namespaces/qst", own: "/api/v1/namespaces/cms"},
		"A60 kube-system":                  {method: get, path: "/api/v1/namespaces/kube-system/secrets?labelSelector=" + mine, hopeless: true},
		"A68 dry run":                      {method: patch, path: core + "configmaps/c-b?dryRun=All", body: `{"data":{"x":"y"}}`, headers: merged},
		"A70 table":                        {method: get, path: core + "secrets/s-b", headers: []string{"Accept", "application/json;as=Table;v=v1;g=meta.k8s.io"}},
		"A70 metadata":                     {method: get, path: core + "secrets/s-b", headers: []string{"Accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}},
		"A70 table of a list":              {method: get, path: core + "secrets", own: core + "secrets?labelSelector=" + mine, headers: []string{"Accept", "application/json;as=Table;v=v1;g=meta.k8s.io"}},
		"A70 protobuf":                     {method: get, path: core + "secrets/s-b", headers: []string{"Accept", "application/vnd.kubernetes.protobuf"}},
		"A70 CBOR":                         {method: get, path: core + "secrets/s-b", headers: []string{"Accept", "application/cbor, application/json"}},
		"A71 group of somebody's server":   {method: get, path: "/apis/evil.example.com/v1/namespaces/cms/pods?labelSelector=" + mine, hopeless: true},
		"A24 nodes/proxy":                  {method: get, path: "/api/v1/nodes/n/proxy/runningpods/", hopeless: true},
		"all nodes":                        {method: get, path: "/api/v1/nodes", own: "/api/v1/nodes?labelSelector=osn.infn.it.node-restriction.kubernetes.io%2Fpool%3Du-" + alice},
	}
}

func TestIntegrationAttacks(t *testing.T) {
	s := newSite(t, testPolicy(t))
	s.populate()
	s.define("widgets", "Widget") // the index learns of it while it runs
	s.define("gadgets", "Gadget")
	// Otherwise answers of the index are compared with those for what it does not know yet.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		assert.Equal(c, http.StatusOK, s.request("alice", http.MethodGet, core+"configmaps/c-a", "").code)
	}, soon, tick)

	for name, test := range attacks() {
		t.Run(name, func(t *testing.T) {
			denied(t, s.request("alice", test.method, test.path, test.body, test.headers...))
			if test.hopeless {
				return
			}
			own, body := test.own, test.ownBody
			if own == "" {
				own = strings.NewReplacer("s-b", "s-a", "c-b", "c-a", "p-b", "p-a", "d-b", "d-a", "h-b", "h-a", "e-b", "e-a", "w-b", "w-a", "sa-b", "sa-a", "svc-b", "svc-a").Replace(test.path)
			}
			if body == "" {
				body = test.body
			}
			got := s.request("alice", test.method, own, body, test.headers...)
			// The API server goes on: to an object, or to find that there is no node to ask.
			refused := []int{http.StatusForbidden, http.StatusUnauthorized}
			if !strings.Contains(own, "services/") { // one without endpoints is not found
				refused = append(refused, http.StatusNotFound)
			}
			assert.NotContains(t, refused, got.code, got.body)
			assert.NotContains(t, got.body, "mt: ")
			if test.method == http.MethodGet && !strings.Contains(own, "/pods/") && !strings.Contains(own, "proxy") {
				assert.Equal(t, http.StatusOK, got.code, got.body)
				assert.NotContains(t, got.body, bob)
			}
		})
	}
	t.Run("A7 two selectors, own first", func(t *testing.T) {
		got := s.request("alice", http.MethodGet, core+"secrets?labelSelector="+mine+"&labelSelector="+his, "")
		assert.Equal(t, http.StatusOK, got.code)
		assert.Contains(t, got.body, "s-a")
		assert.NotContains(t, got.body, "s-b")
	})
	t.Run("A11 by field and own label", func(t *testing.T) {
		got := s.request("alice", http.MethodGet, core+"secrets?fieldSelector=metadata.name%3Ds-b&labelSelector="+mine, "")
		assert.Equal(t, http.StatusOK, got.code)
		assert.NotContains(t, got.body, "s-b")
	})
	t.Run("A16 delete own", func(t *testing.T) {
		got := s.request("alice", http.MethodDelete, core+"services?labelSelector="+mine, "")
		assert.Equal(t, http.StatusOK, got.code, got.body)
		left, err := s.Client().CoreV1().Services(space).List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		var names []string
		for i := range left.Items {
			names = append(names, left.Items[i].Name)
		}
		assert.ElementsMatch(t, []string{"svc-b", "svc-system"}, names)
	})
	t.Run("A18 another name in the body", func(t *testing.T) {
		assert.Equal(t, http.StatusBadRequest, s.request("alice", http.MethodPut, core+"configmaps/c-a", `{"metadata":{"name":"c-b"}}`).code)
	})
	t.Run("A23 odd paths", func(t *testing.T) {
		for _, path := range []string{
			core + "secrets//s-b", core + "pods/../secrets/s-b", "//api/v1/namespaces/cms/secrets/s-b", core + "secrets/%2e%2e/secrets/s-b",
			core + "./secrets/s-b", core + "Secrets/s-b", core + "secrets/s-b%2f", core + "secrets%2fs-b",
		} {
			got := s.request("alice", http.MethodGet, path, "")
			assert.Contains(t, []int{http.StatusForbidden, http.StatusNotFound, http.StatusMovedPermanently, http.StatusTemporaryRedirect}, got.code, path)
			assert.NotContains(t, got.body, bob, path)
		}
	})
	t.Run("A26 another name in the body", func(t *testing.T) {
		got := s.request("alice", http.MethodPost, core+"pods/p-a/eviction", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p-b"}}`)
		assert.Equal(t, http.StatusBadRequest, got.code, got.body)
	})
	t.Run("A19 apply creates", func(t *testing.T) {
		got := s.request("alice", http.MethodPatch, core+"configmaps/applied?fieldManager=x", `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"applied"}}`, "Content-Type", apply)
		assert.Equal(t, http.StatusCreated, got.code, got.body)
	})
	t.Run("A47 see Roles", func(t *testing.T) {
		assert.Equal(t, http.StatusOK, s.request("alice", http.MethodGet, "/apis/rbac.authorization.k8s.io/v1/namespaces/cms/roles", "").code)
	})
	t.Run("A62 member of the other project", func(t *testing.T) {
		denied(t, s.request("carol", http.MethodGet, core+"secrets?labelSelector=osn.infn.it%2Fuserid%3D"+carol, ""))
		assert.Equal(t, http.StatusOK, s.request("carol", http.MethodGet, "/api/v1/namespaces/qst/secrets?labelSelector=osn.infn.it%2Fuserid%3D"+carol, "").code)
	})
	t.Run("stranger", func(t *testing.T) {
		denied(t, s.request("stranger", http.MethodGet, core+"secrets?labelSelector="+mine, ""))
	})
	t.Run("who am I", func(t *testing.T) {
		got := s.request("alice", http.MethodPost, "/apis/authentication.k8s.io/v1/selfsubjectreviews", `{}`)
		assert.Equal(t, http.StatusCreated, got.code)
		assert.Contains(t, got.body, alice)
		assert.Equal(t, http.StatusOK, s.request("alice", http.MethodGet, "/apis", "").code)
	})
	t.Run("A56 being deleted", s.testBeingDeleted)
	t.Run("A59 ServiceAccounts", s.testServiceAccounts)
	t.Run("A37 A39 name reuse", s.testReuse)
	t.Run("A67 watches stall", s.testStalled)
	t.Run("A66 webhook fails", s.testWebhookFails)
}
