// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// TestOriginsOwnIsRecorded sets what belongs to the origin cluster and wants each in the report.
func TestOriginsOwnIsRecorded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 40) + "/" + strings.Repeat("b", 40)
	result := translated(t, request(func(pod *corev1.Pod) {
		pod.OwnerReferences = []metav1.OwnerReference{{Kind: "Job", Name: "mc"}}
		pod.Finalizers = []string{"batch.kubernetes.io/job-tracking"}
		pod.Annotations["ours"] = "theirs"
		pod.Labels[long] = "x"
		pod.Spec.AutomountServiceAccountToken, pod.Spec.EnableServiceLinks = new(true), new(true)
		pod.Spec.ServiceAccountName, pod.Spec.DeprecatedServiceAccount = "", "old"
		pod.Spec.NodeSelector = map[string]string{"kubernetes.io/arch": "arm64", "gpu": "a100"}
		pod.Spec.DNSPolicy = corev1.DNSClusterFirstWithHostNet
	}), &translate.Policy{
		Annotations: map[string]string{"ours": "ours"}, NodeSelector: map[string]string{"kubernetes.io/arch": "amd64"},
	})
	assert.Subset(t, reported(result.Report, translate.ActionDropped), []string{
		"metadata.ownerReferences", "metadata.finalizers", "metadata.annotations[interlink.eu/x]",
		"metadata.annotations[kubectl.kubernetes.io/last-applied-configuration]", "spec.serviceAccount", "spec.nodeSelector",
	})
	assert.Subset(t, reported(result.Report, translate.ActionMapped), []string{
		"metadata.annotations[ours]", "metadata.labels[" + long + "]", "spec.automountServiceAccountToken", "spec.enableServiceLinks",
		"spec.nodeSelector[kubernetes.io/arch]", "spec.dnsPolicy",
	})
	assert.Contains(t, result.Report, translate.Change{
		Action: translate.ActionDropped, Field: "spec.nodeSelector", Detail: "labels of the origin's nodes: gpu",
	})
	assert.NotContains(t, result.Report.Annotation(), "JobID", "what a virtual kubelet writes is no loss")
}

func TestNameserversBeyondTheLimitAreRecorded(t *testing.T) {
	t.Parallel()
	result := translated(t, request(func(pod *corev1.Pod) {
		pod.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"192.0.2.1", "10.96.0.10", "192.0.2.2", "192.0.2.3"}}
	}), &translate.Policy{DNS: map[string]translate.ClusterDNS{"*": {Nameservers: []string{"10.96.0.10"}}}})
	assert.Equal(t, []string{"10.96.0.10", "192.0.2.1", "192.0.2.2"}, result.Pod.Spec.DNSConfig.Nameservers)
	assert.Contains(t, result.Report, translate.Change{
		Action: translate.ActionDropped, Field: "spec.dnsConfig.nameservers", Detail: "beyond the limit of 3: 192.0.2.3",
	})
}

// TestProjectedFilesThatDidNotCome are those of sources that the sender does not know.
func TestProjectedFilesThatDidNotCome(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		source  corev1.VolumeProjection
		files   map[string]string
		refused string
		missing string
		dropped bool
	}{
		"podCertificate": {
			source:  corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{SignerName: "example.org/s", CredentialBundlePath: "c"}},
			files:   map[string]string{"c": "x"},
			refused: "spec.volumes[v].projected.sources[0].podCertificate",
		},
		"clusterTrustBundle": {
			source:  corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Path: "ca"}},
			refused: "spec.volumes[v].projected.sources[0].clusterTrustBundle",
		},
		"clusterTrustBundle that came": {
			source: corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Path: "ca"}}, files: map[string]string{"ca": "x"},
		},
		"optional clusterTrustBundle": {
			source: corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Path: "ca", Optional: new(true)}}, dropped: true,
		},
		"token": {
			source:  corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
			missing: "file token of the volume physics/v (spec.volumes[v])",
		},
		"field": {
			source:  corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "cpu"}}}},
			missing: "file cpu of the volume physics/v (spec.volumes[v])",
		},
		"key of a Secret": {
			source: corev1.VolumeProjection{Secret: &corev1.SecretProjection{
				LocalObjectReference: reference("s"), Items: []corev1.KeyToPath{{Key: "k", Path: "p"}},
			}},
			missing: "file p of the volume physics/v (spec.volumes[v])",
		},
		"key of an optional Secret": {
			source: corev1.VolumeProjection{Secret: &corev1.SecretProjection{
				LocalObjectReference: reference("s"), Items: []corev1.KeyToPath{{Key: "k", Path: "p"}}, Optional: new(true),
			}},
			dropped: true,
		},
		"whole Secret": {
			source:  corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: reference("s")}},
			missing: "files of the Secret physics/s (spec.volumes[v])",
		},
		"whole Secret that came": {
			source: corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: reference("s")}}, files: map[string]string{"k": "v"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := request(func(pod *corev1.Pod) {
				pod.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
					Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{test.source}},
				}}}
			})
			r.Projected = []corev1.ConfigMap{{ObjectMeta: named("v"), Data: test.files}}
			result, err := translate.Pod(r, &translate.Policy{})
			var refusal *translate.RefusalError
			var missing *translate.MissingError
			switch {
			case test.refused != "":
				require.ErrorAs(t, err, &refusal)
				assert.Equal(t, test.refused, refusal.Problems[0].Field)
				assert.NotEmpty(t, refusal.Problems[0].Remedy)
			case test.missing != "":
				require.ErrorAs(t, err, &missing)
				assert.Equal(t, []string{test.missing}, missing.Objects)
			default:
				require.NoError(t, err)
				assert.Equal(t, test.dropped, len(reported(result.Report, translate.ActionDropped)) > 0 &&
					strings.Contains(result.Report.Annotation(), "is optional and was not supplied"))
			}
		})
	}
}

// TestReadOnlyVolumesStayReadOnly maps a read-only claim to volumes that can and cannot be marked.
func TestReadOnlyVolumesStayReadOnly(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]corev1.VolumeSource{
		"claim":    {PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "ours"}},
		"csi":      {CSI: &corev1.CSIVolumeSource{Driver: "d"}},
		"hostPath": {HostPath: &corev1.HostPathVolumeSource{Path: "/data"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policy := &translate.Policy{Volumes: []translate.VolumeRule{{
				Match: translate.VolumeMatch{Kind: "persistentVolumeClaim"}, Target: target,
			}}}
			result := translated(t, request(func(pod *corev1.Pod) {
				pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
					PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "data", ReadOnly: true},
				}}, {Name: "scratch"}}
				pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "data", MountPath: "/d"}, {Name: "scratch", MountPath: "/s"}}
			}), policy)
			mounts := result.Pod.Spec.Containers[0].VolumeMounts
			assert.True(t, mounts[0].ReadOnly)
			assert.False(t, mounts[1].ReadOnly)
			assert.Contains(t, reported(result.Report, translate.ActionMapped), "spec.containers[main].volumeMounts[data].readOnly")
			switch source := result.Pod.Spec.Volumes[0].VolumeSource; {
			case source.PersistentVolumeClaim != nil:
				assert.True(t, source.PersistentVolumeClaim.ReadOnly)
			case source.CSI != nil:
				assert.True(t, *source.CSI.ReadOnly)
			}
			assert.Equal(t, target, policy.Volumes[0].Target, "the policy is not changed")
		})
	}
}

// Two volumes of a pod that the policy maps to one claim are one volume for a kubelet, which heeds either's field.
func TestWhatThePolicyHasReadOnlyIsMountedSo(t *testing.T) {
	t.Parallel()
	claim := func(readOnly bool) corev1.VolumeSource {
		return corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "home", ReadOnly: readOnly}}
	}
	policy := &translate.Policy{Volumes: []translate.VolumeRule{
		{Match: translate.VolumeMatch{Kind: "nfs"}, Target: claim(false)},
		{Match: translate.VolumeMatch{Kind: "hostPath"}, Target: claim(true)},
	}}
	result := translated(t, request(func(pod *corev1.Pod) {
		pod.Spec.Volumes = []corev1.Volume{
			{Name: "home", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "s", Path: "/home"}}},
			{Name: "cvmfs", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/cvmfs"}}},
		}
		pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "home", MountPath: "/home"}, {Name: "cvmfs", MountPath: "/cvmfs"}}
	}), policy)
	mounts := result.Pod.Spec.Containers[0].VolumeMounts
	assert.False(t, mounts[0].ReadOnly)
	assert.True(t, mounts[1].ReadOnly)
	assert.Contains(t, reported(result.Report, translate.ActionMapped), "spec.containers[main].volumeMounts[cvmfs].readOnly")
}
