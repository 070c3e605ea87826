// SPDX-License-Identifier: Apache-2.0

//go:build integration

package plugin_test

import (
	"bytes"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/interlink"
)

// TestRightsInDeploy runs the plugin with exactly the rights that deploy/ gives.
func TestRightsInDeploy(t *testing.T) {
	t.Parallel()
	admin := shared.Cluster(t).Client()
	_, err := admin.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cms"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	apply(t, admin, "../../deploy/interlink-sidecar/rbac.yaml")
	s := startAs(t, admin, "cms", "system:serviceaccount:cms:interlink-sidecar", makesClaims(time.Millisecond))
	waitForDefaultAccount(t, admin, "cms")

	request := withObjects(originPod("least-rights"))
	s.create(request)
	s.create(request)
	assert.NotNil(t, s.statuses(request.Pod)[0].Containers[0].State.Waiting)
	code, body, _ := s.call(http.MethodGet, interlink.PathLogs, interlink.LogRequest{PodUID: string(request.Pod.UID), ContainerName: "none"}, nil)
	assert.Equal(t, http.StatusBadRequest, code, body)
	update := asUpdate(request)
	update.ConfigMaps[0].Data["a"] = "2"
	update.Secrets[0].Data["k"] = []byte("other")
	update.Pod.Annotations["note"] = "new"
	s.updated(update)
	s.delete(&request.Pod)
	assert.Empty(t, s.pods(request.Pod.UID))
	claimed := withClaim("claimed", "home")
	s.create(claimed)
	s.delete(&claimed.Pod)
	s.noClaims()
	s.tellsTheTruth(t)
}

// apply creates the objects of a manifest that the test needs.
func apply(t *testing.T, admin kubernetes.Interface, path string) {
	t.Helper()
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	created := 0
	for document := range bytes.SplitSeq(content, []byte("\n---\n")) {
		var meta metav1.TypeMeta
		require.NoError(t, yaml.Unmarshal(document, &meta))
		switch meta.Kind {
		case "ServiceAccount":
			object := &corev1.ServiceAccount{}
			require.NoError(t, yaml.UnmarshalStrict(document, object))
			_, err = admin.CoreV1().ServiceAccounts(object.Namespace).Create(t.Context(), object, metav1.CreateOptions{})
		case "Role":
			object := &rbacv1.Role{}
			require.NoError(t, yaml.UnmarshalStrict(document, object))
			_, err = admin.RbacV1().Roles(object.Namespace).Create(t.Context(), object, metav1.CreateOptions{})
		case "RoleBinding":
			object := &rbacv1.RoleBinding{}
			require.NoError(t, yaml.UnmarshalStrict(document, object))
			_, err = admin.RbacV1().RoleBindings(object.Namespace).Create(t.Context(), object, metav1.CreateOptions{})
		default:
			require.FailNow(t, "unexpected kind", meta.Kind)
		}
		require.NoError(t, err)
		created++
	}
	require.Equal(t, 3, created)
}
