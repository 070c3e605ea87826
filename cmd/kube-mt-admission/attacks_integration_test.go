// SPDX-License-Identifier: Apache-2.0

//go:build integration

package main_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func tooMuch() *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "too-much"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "too-much"}},
	}
}

// attackPod is a pod with more in its spec.
func attackPod(spec string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: attack}
spec:
  containers: [{name: main, image: busybox}]
  %s
`, spec)
}

// attacks are Alice's on Bob, who has a Secret called bobs.
func (s *site) attacks(t *testing.T) {
	for name, test := range map[string]struct{ yaml, want string }{
		"A31 token of an account": {`
apiVersion: v1
kind: Secret
metadata: {name: t, annotations: {kubernetes.io/service-account.name: robot}}
type: kubernetes.io/service-account-token
`, "a Secret of type kubernetes.io/service-account-token is not allowed"},
		"A33 volume":      {attackPod("volumes: [{name: v, secret: {secretName: bobs}}]"), `spec.volumes[0].secret: secrets "bobs": not found or not yours`},
		"A33 projected":   {attackPod("volumes: [{name: v, projected: {sources: [{secret: {name: bobs}}]}}]"), `spec.volumes[0].projected.sources[0].secret: secrets "bobs": not found or not yours`},
		"A33 pull secret": {attackPod("imagePullSecrets: [{name: bobs}]"), `spec.imagePullSecrets[0]: secrets "bobs": not found or not yours`},
		"A33 init":        {attackPod("initContainers: [{name: i, image: b, envFrom: [{secretRef: {name: bobs}}]}]"), `spec.initContainers[0].envFrom[0].secretRef: secrets "bobs": not found or not yours`},
		"A35 dangling":    {attackPod("volumes: [{name: v, secret: {secretName: later, optional: true}}]"), `secrets "later": not found or not yours`},
		"A45 snippet": {`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i, annotations: {nginx.ingress.kubernetes.io/configuration-snippet: x}}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
`, "metadata.annotations[nginx.ingress.kubernetes.io/configuration-snippet] is not allowed"},
		"A45 tls": {`
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: i}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}, tls: [{secretName: bobs}]}
`, `spec.tls[0].secretName: secrets "bobs": not found or not yours`},
		"A46 volume": {`
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: c}
spec: {volumeName: bobs-volume, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
`, `spec.volumeName: persistentvolumes "bobs-volume": not found or not yours`},
		"A49 node name": {attackPod("nodeName: bob-1"), "spec.nodeName is not allowed; use nodeSelector kubernetes.io/hostname"},
		"A49 deployment": {`
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec:
  selector: {matchLabels: {a: b}}
  template: {metadata: {labels: {a: b}}, spec: {nodeName: bob-1, containers: [{name: a, image: b}]}}
`, "spec.template.spec.nodeName is not allowed; use nodeSelector kubernetes.io/hostname"},
		"A50 everything": {attackPod("tolerations: [{operator: Exists}]"), "spec.tolerations[0]: tolerating every taint is not allowed; give a key"},
		"A50 bob's pool": {attackPod("tolerations: [{key: osn.infn.it/pool, value: u-" + bob + "}]"), "spec.tolerations[0]: tolerating the taint osn.infn.it/pool is not allowed"},
		"A54 scheduler":  {attackPod("schedulerName: evil"), "spec.schedulerName: evil is not allowed"},
		"A44 autoscaler": {`
apiVersion: autoscaling/v1
kind: HorizontalPodAutoscaler
metadata: {name: h}
spec: {maxReplicas: 9, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: bobs}}
`, `spec.scaleTargetRef: deployments.apps "bobs": not found or not yours`},
		"external addresses": {`
apiVersion: v1
kind: Service
metadata: {name: x}
spec: {ports: [{port: 80}], externalIPs: [192.0.2.1]}
`, "spec.externalIPs is not allowed"},
		"A43 endpoints": {`
apiVersion: v1
kind: Endpoints
metadata: {name: web}
`, "endpoints cannot be changed by users"},
		"A20 reserved": {`
apiVersion: v1
kind: ConfigMap
metadata: {name: r, annotations: {osn.infn.it/abandon: "true"}}
`, "metadata.annotations[osn.infn.it/abandon] is the platform's and cannot be set"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "A44 autoscaler" {
				require.NoError(t, s.create(s.config(bob), `
apiVersion: apps/v1
kind: Deployment
metadata: {name: bobs}
spec:
  replicas: 0
  selector: {matchLabels: {a: b}}
  template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: b}]}}
`))
			}
			err := s.create(s.config(alice), test.yaml)
			assert.ErrorContains(t, err, test.want)
		})
	}
	t.Run("A21, A22 labels", s.relabel)
	t.Run("A27, A28 bindings", s.bindings)
	t.Run("A34 ephemeral container", s.debugContainer)
	t.Run("A40 owner references", s.adoption)
	t.Run("A55 status", s.statusLabels)
	t.Run("others' objects", s.othersObjects)
	t.Run("mirror pod", s.mirrorPod)
}

func (s *site) relabel(t *testing.T) {
	for name, patch := range map[string]string{
		"A21": `{"metadata":{"labels":{"osn.infn.it/userid":"` + bob + `"}}}`,
		"A22": `{"metadata":{"labels":null}}`,
	} {
		changed, err := s.as(alice).CoreV1().ConfigMaps(namespace).Patch(t.Context(), "settings", types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		require.NoError(t, err, name)
		assert.Equal(t, alice, changed.Labels["osn.infn.it/userid"], name)
		assert.Equal(t, project, changed.Labels["osn.infn.it/projectid"], name)
	}
}

func (s *site) bindings(t *testing.T) {
	ctx := t.Context()
	unbound := "apiVersion: v1\nkind: Pod\nmetadata: {name: unbound}\nspec: {containers: [{name: main, image: busybox}], nodeSelector: {no: where}}\n"
	require.NoError(t, s.create(s.config(alice), unbound))
	binding := &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: "unbound", Labels: map[string]string{"osn.infn.it/userid": bob}},
		Target:     corev1.ObjectReference{Kind: "Node", Name: "bob-1"},
	}
	err := s.as(alice).CoreV1().Pods(namespace).Bind(ctx, binding, metav1.CreateOptions{})
	require.ErrorContains(t, err, "only the scheduler binds pods to nodes")
	require.NoError(t, s.asSystem("system:kube-scheduler").CoreV1().Pods(namespace).Bind(ctx, binding, metav1.CreateOptions{}))
	pod, err := s.admin.CoreV1().Pods(namespace).Get(ctx, "unbound", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, alice, pod.Labels["osn.infn.it/userid"])
}

func attackPodNamed(name string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {containers: [{name: main, image: busybox}], schedulingGates: [{name: example.org/wait}]}\n", name)
}

func (s *site) debugContainer(t *testing.T) {
	ctx := t.Context()
	require.NoError(t, s.create(s.config(alice), attackPodNamed("debugged")))
	pod, err := s.as(alice).CoreV1().Pods(namespace).Get(ctx, "debugged", metav1.GetOptions{})
	require.NoError(t, err)
	pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
		Name: "debug", Image: "busybox", TerminationMessagePolicy: corev1.TerminationMessageReadFile, ImagePullPolicy: corev1.PullAlways,
		EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "bobs"}}}},
	}}}
	_, err = s.as(alice).CoreV1().Pods(namespace).UpdateEphemeralContainers(ctx, "debugged", pod, metav1.UpdateOptions{})
	require.ErrorContains(t, err, `spec.ephemeralContainers[0].envFrom[0].secretRef: secrets "bobs": not found or not yours`)
	pod.Spec.EphemeralContainers[0].EnvFrom = nil
	_, err = s.as(alice).CoreV1().Pods(namespace).UpdateEphemeralContainers(ctx, "debugged", pod, metav1.UpdateOptions{})
	require.NoError(t, err)
}

func (s *site) adoption(t *testing.T) {
	ctx := t.Context()
	bobs, err := s.admin.CoreV1().Secrets(namespace).Get(ctx, "bobs", metav1.GetOptions{})
	require.NoError(t, err)
	_, err = s.as(alice).CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: "adopted", OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Secret", Name: "bobs", UID: bobs.UID}},
	}}, metav1.CreateOptions{})
	assert.ErrorContains(t, err, `metadata.ownerReferences: Secret "bobs": not found or not yours`)
}

func (s *site) statusLabels(t *testing.T) {
	node := s.asSystem("system:serviceaccount:kube-system:node-controller")
	_, err := s.admin.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "status"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "system:serviceaccount:kube-system:node-controller"}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	patch := []byte(`{"metadata":{"labels":{"osn.infn.it/userid":"` + bob + `"}},"status":{"reason":"x"}}`)
	changed, err := node.CoreV1().Pods(namespace).Patch(t.Context(), "db-0", types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	require.NoError(t, err)
	assert.Equal(t, alice, changed.Labels["osn.infn.it/userid"])
}

func (s *site) othersObjects(t *testing.T) {
	ctx := t.Context()
	secrets := s.as(alice).CoreV1().Secrets(namespace)
	_, err := secrets.Patch(ctx, "bobs", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
	require.ErrorContains(t, err, "secrets bobs: not found or not yours")
	err = secrets.Delete(ctx, "bobs", metav1.DeleteOptions{})
	require.ErrorContains(t, err, "secrets bobs: not found or not yours")
	err = s.as(bob).CoreV1().Pods(namespace).Delete(ctx, "db-0", metav1.DeleteOptions{})
	require.ErrorContains(t, err, "pods db-0: not found or not yours")
}

func (s *site) mirrorPod(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "mirror-bob-1", Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "x"},
			Labels:          map[string]string{"app": "web", "osn.infn.it/userid": alice},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "bob-1", UID: s.nodeUID(t, "bob-1"), Controller: new(true)}},
		},
		Spec: corev1.PodSpec{NodeName: "bob-1", Containers: []corev1.Container{{Name: "a", Image: "b"}}},
	}
	node := s.asSystem("system:node:bob-1", "system:nodes")
	_, err := node.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	assert.ErrorContains(t, err, "nodes cannot make pods in the namespace of a project")
}

func (s *site) nodeUID(t *testing.T, name string) types.UID {
	t.Helper()
	node, err := s.admin.CoreV1().Nodes().Get(t.Context(), name, metav1.GetOptions{})
	require.NoError(t, err)
	return node.UID
}
