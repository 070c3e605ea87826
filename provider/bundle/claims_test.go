// SPDX-License-Identifier: Apache-2.0

package bundle_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clienttesting "k8s.io/client-go/testing"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/bundle"
)

// mounting is a pod with volumes that are claims.
func mounting(names ...string) *corev1.Pod {
	return newPod(func(spec *corev1.PodSpec) {
		for _, name := range names {
			spec.Volumes = append(spec.Volumes, corev1.Volume{VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
			}})
		}
	})
}

func TestClaimsAreTold(t *testing.T) {
	t.Parallel()
	c, client := collector(t, nil)
	for _, claim := range []*corev1.PersistentVolumeClaim{
		{ObjectMeta: metav1.ObjectMeta{Name: "home"}, Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: new("ceph"), VolumeMode: new(corev1.PersistentVolumeBlock), VolumeName: "pv-1",
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany},
			Resources:   corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("5Gi")}},
		}},
		{ObjectMeta: metav1.ObjectMeta{Name: "bare"}},
	} {
		_, err := client.CoreV1().PersistentVolumeClaims("user").Create(t.Context(), claim, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	client.ClearActions()
	pod := mounting("home", "home", "bare", "absent")
	for range 3 {
		request, err := c.Collect(t.Context(), pod, bundle.Options{Claims: bundle.ClaimsWanted})
		require.NoError(t, err)
		assert.Equal(t, []interlink.Claim{{
			Name: "home", StorageClass: "ceph", VolumeMode: corev1.PersistentVolumeBlock,
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}, Size: new(resource.MustParse("5Gi")),
		}, {Name: "bare"}}, request.Claims)
	}
	assert.Len(t, client.Actions(), 2+3, "what exists is read once for a while")
	client.ClearActions()
	request, err := c.Collect(t.Context(), pod, bundle.Options{})
	require.NoError(t, err)
	assert.Nil(t, request.Claims)
	assert.Empty(t, client.Actions(), "nobody asked")
}

// TestClaimsThatMayNotBeRead waits for a right that may come, but not for ever.
func TestClaimsThatMayNotBeRead(t *testing.T) {
	t.Parallel()
	c, client := collector(t, nil)
	answer := error(apierrors.NewForbidden(schema.GroupResource{Resource: "persistentvolumeclaims"}, "home", errors.New("no relationship found")))
	client.PrependReactor("get", "persistentvolumeclaims", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, answer })
	_, err := c.Collect(t.Context(), mounting("home"), bundle.Options{Claims: bundle.ClaimsWanted})
	require.ErrorContains(t, err, "PersistentVolumeClaim user/home")
	request, err := c.Collect(t.Context(), mounting("home"), bundle.Options{Claims: bundle.ClaimsIfAllowed})
	require.NoError(t, err)
	assert.Empty(t, request.Claims)
	answer = apierrors.NewInternalError(errors.New("etcd"))
	_, err = c.Collect(t.Context(), mounting("home"), bundle.Options{Claims: bundle.ClaimsIfAllowed})
	require.ErrorContains(t, err, "etcd", "who cannot tell does not say no")
}
