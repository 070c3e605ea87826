// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// withClaims is a pod that uses claims of its origin.
func withClaims(names ...string) translate.Request {
	return request(func(pod *corev1.Pod) {
		for _, name := range names {
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "v-" + name, VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: name},
			}})
		}
	})
}

func made(rule translate.ClaimRule) *translate.Policy {
	return &translate.Policy{Volumes: []translate.VolumeRule{{Match: translate.VolumeMatch{Kind: "persistentVolumeClaim"}, Claim: &rule}}}
}

func size(text string) *resource.Quantity { return new(resource.MustParse(text)) }

func TestClaimIsMade(t *testing.T) {
	t.Parallel()
	policy := made(translate.ClaimRule{StorageClass: new("fast"), Size: size("20Gi"), Retention: translate.RetentionDelete})
	require.NoError(t, policy.Validate("policy"))
	r := withClaims("home", "home")
	r.Pod.Spec.Volumes[1].Name = "again"
	r.Pod.Spec.Volumes[1].PersistentVolumeClaim.ReadOnly = true
	result := translated(t, r, policy)
	require.Len(t, result.Claims, 1, "one for both volumes")
	claim := result.Claims[0]
	assert.Empty(t, validation.IsDNS1123Label(claim.Name))
	assert.Equal(t, map[string]string{
		"app.kubernetes.io/managed-by": "interlink-sidecar", "offload.infn.it/origin": "default",
		"offload.infn.it/claim": claim.Labels[translate.LabelClaim], "offload.infn.it/retention": "Delete",
	}, claim.Labels)
	assert.Equal(t, map[string]string{
		"offload.infn.it/cluster": "c1", "offload.infn.it/namespace": "physics", "offload.infn.it/name": "home", "offload.infn.it/grace": "10m0s",
	}, claim.Annotations)
	assert.Equal(t, corev1.PersistentVolumeClaimSpec{
		StorageClassName: new("fast"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("20Gi")}},
	}, claim.Spec)
	assert.Equal(t, claim.Name, result.Pod.Labels[translate.LabelClaimPrefix+claim.Labels[translate.LabelClaim]])
	for i, volume := range result.Pod.Spec.Volumes {
		assert.Equal(t, claim.Name, volume.PersistentVolumeClaim.ClaimName)
		assert.Equal(t, i == 1, volume.PersistentVolumeClaim.ReadOnly)
	}
	assert.Contains(t, reported(result.Report, translate.ActionMapped), "spec.volumes[v-home].persistentVolumeClaim")
}

func TestClaimsOfOthersAreOthers(t *testing.T) {
	t.Parallel()
	policy := made(translate.ClaimRule{Size: size("1Gi")})
	name := func(change func(*translate.Request)) string {
		r := withClaims("home")
		if change != nil {
			change(&r)
		}
		return translated(t, r, policy).Claims[0].Name
	}
	first := name(nil)
	assert.Equal(t, first, name(func(r *translate.Request) { r.Pod.UID, r.Pod.Name = "other", "other" }), "shared by pods")
	for which, change := range map[string]func(*translate.Request){
		"client":    func(r *translate.Request) { r.Client = "alice" },
		"cluster":   func(r *translate.Request) { r.Pod.Annotations[interlink.AnnotationOriginCluster] = "c2" },
		"namespace": func(r *translate.Request) { r.Pod.Namespace = "chemistry" },
		"name":      func(r *translate.Request) { r.Pod.Spec.Volumes[0].PersistentVolumeClaim.ClaimName = "data" },
	} {
		assert.NotEqual(t, first, name(change), which)
	}
}

func TestClaimFollowsTheOrigins(t *testing.T) {
	t.Parallel()
	block := corev1.PersistentVolumeBlock
	facts := []interlink.Claim{{
		Name: "home", StorageClass: "ceph", AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}, VolumeMode: block, Size: size("5Gi"),
	}}
	for name, test := range map[string]struct {
		rule    translate.ClaimRule
		facts   []interlink.Claim
		size    string
		mode    corev1.PersistentVolumeAccessMode
		block   bool
		refused string
	}{
		"the origin's figures":    {facts: facts, size: "5Gi", mode: corev1.ReadWriteMany, block: true},
		"the rule's figures":      {rule: translate.ClaimRule{Size: size("1Gi"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany}, VolumeMode: corev1.PersistentVolumeFilesystem}, facts: facts, size: "1Gi", mode: corev1.ReadOnlyMany},
		"nothing told":            {rule: translate.ClaimRule{Size: size("1Gi")}, size: "1Gi", mode: corev1.ReadWriteOnce},
		"nothing told, no size":   {refused: "policy.volumes[0].claim.size"},
		"of another claim":        {facts: []interlink.Claim{{Name: "other", Size: size("1Gi")}}, refused: "size of the claim is not known"},
		"not more than the limit": {rule: translate.ClaimRule{MaxSize: size("5Gi")}, facts: facts, size: "5Gi", mode: corev1.ReadWriteMany, block: true},
		"too large":               {rule: translate.ClaimRule{MaxSize: size("4Gi")}, facts: facts, refused: "no claims of more than 4Gi"},
		"negative":                {facts: []interlink.Claim{{Name: "home", Size: size("-1")}}, refused: "size of the claim is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := withClaims("home")
			r.Claims = test.facts
			result, err := translate.Pod(r, made(test.rule))
			if test.refused != "" {
				require.ErrorContains(t, err, test.refused)
				assert.ErrorContains(t, err, "spec.volumes[v-home].persistentVolumeClaim")
				return
			}
			require.NoError(t, err)
			spec := result.Claims[0].Spec
			assert.Equal(t, test.size, spec.Resources.Requests.Storage().String())
			assert.Equal(t, []corev1.PersistentVolumeAccessMode{test.mode}, spec.AccessModes)
			assert.Equal(t, test.block, spec.VolumeMode != nil && *spec.VolumeMode == block)
			assert.Nil(t, spec.StorageClassName, "the target's default class, not the origin's")
			assert.Equal(t, "Retain", result.Claims[0].Labels[translate.LabelRetention])
			assert.NotContains(t, result.Claims[0].Annotations, translate.AnnotationGrace)
		})
	}
}

// TestClassOfAClaim maps claims by a class that not every virtual kubelet tells.
func TestClassOfAClaim(t *testing.T) {
	t.Parallel()
	policy := &translate.Policy{Volumes: []translate.VolumeRule{
		{Match: translate.VolumeMatch{Kind: "persistentVolumeClaim", StorageClass: "ceph*"}, Claim: &translate.ClaimRule{Size: size("1Gi")}},
		{Match: translate.VolumeMatch{Kind: "persistentVolumeClaim", Name: "shared"}, Target: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nas", Path: "/"}}},
	}}
	require.NoError(t, policy.Validate("policy"))
	assert.True(t, policy.AsksAboutClaims())
	r := withClaims("home")
	_, err := translate.Pod(r, policy)
	require.ErrorContains(t, err, "storage class, by which the site maps volumes, did not come")
	require.ErrorContains(t, err, "allowed to read claims")

	r.Claims = []interlink.Claim{{Name: "home", StorageClass: "ceph-rbd"}}
	assert.Len(t, translated(t, r, policy).Claims, 1)
	r.Claims[0].StorageClass = "local"
	_, err = translate.Pod(r, policy)
	require.ErrorContains(t, err, "names storage of the origin cluster")
	assert.NotContains(t, err.Error(), "did not come")
	assert.NotNil(t, translated(t, withClaims("shared"), policy).Pod.Spec.Volumes[0].NFS, "by name all the same")
}

func TestUpdateMakesNoClaims(t *testing.T) {
	t.Parallel()
	result, err := translate.Update(withClaims("home"), made(translate.ClaimRule{Size: size("1Gi")}))
	require.NoError(t, err)
	assert.Empty(t, result.Claims)
	for key := range result.Pod.Labels {
		assert.NotContains(t, key, translate.LabelClaimPrefix)
	}
}

func TestClaimRuleValidation(t *testing.T) {
	t.Parallel()
	bad := translate.ClaimRule{
		StorageClass: new("a b"), Size: size("0"), MaxSize: size("-1"), AccessModes: []corev1.PersistentVolumeAccessMode{"All"},
		VolumeMode: "Tape", Retention: "Pod", Grace: &metav1.Duration{Duration: time.Minute},
	}
	policy := &translate.Policy{Volumes: []translate.VolumeRule{
		{Match: translate.VolumeMatch{Kind: "persistentVolumeClaim"}, Claim: &bad},
		{Match: translate.VolumeMatch{Kind: "nfs"}, Claim: &translate.ClaimRule{}},
		{
			Match: translate.VolumeMatch{Kind: "persistentVolumeClaim"}, Claim: &translate.ClaimRule{},
			Target: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}},
		},
	}}
	err := policy.Validate("policy")
	for _, want := range []string{
		"policy.volumes[0].claim.storageClass", "policy.volumes[0].claim.size: 0", "policy.volumes[0].claim.maxSize: -1",
		"policy.volumes[0].claim.accessModes[0]", "policy.volumes[0].claim.volumeMode", `policy.volumes[0].claim.retention: "Pod"`,
		"policy.volumes[0].claim.grace", "policy.volumes[1].claim: only", "policy.volumes[2]: target and claim given",
	} {
		assert.ErrorContains(t, err, want)
	}
}
