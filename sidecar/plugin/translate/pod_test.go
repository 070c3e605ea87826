// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

// request is a small pod of an origin; change may be nil.
func request(change func(*corev1.Pod)) translate.Request {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "worker-0", Namespace: "physics", UID: "11111111-2222-3333-4444-555555555555",
			Labels: map[string]string{"app": "dask", "dask.org/component": "worker"},
			Annotations: map[string]string{
				interlink.AnnotationOriginCluster: "c1", interlink.AnnotationOriginNode: "vk1",
				"note": "costs $5", "osn.infn.it/policy": "shared", "osn.infn.it/userid": "root",
				"interlink.eu/x": "y", "JobID": "a/b", "kubectl.kubernetes.io/last-applied-configuration": "{}",
			},
		},
		Spec: corev1.PodSpec{
			NodeName: "vk1", ServiceAccountName: "batch",
			Containers: []corev1.Container{{Name: "main", Image: "example.org/main:1"}},
		},
	}
	if change != nil {
		change(pod)
	}
	return translate.Request{Pod: pod}
}

func translated(t *testing.T, r translate.Request, policy *translate.Policy) translate.Result {
	t.Helper()
	result, err := translate.Pod(r, policy)
	require.NoError(t, err)
	return result
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	result := translated(t, request(nil), &translate.Policy{})
	assert.Equal(t, map[string]string{
		"app.kubernetes.io/managed-by": "interlink-sidecar", "offload.infn.it/uid": "11111111-2222-3333-4444-555555555555",
		"offload.infn.it/origin": "default", "labels.offload.infn.it/app": "dask", "labels.offload.infn.it/dask.org_component": "worker",
	}, result.Pod.Labels)
	annotations := result.Pod.Annotations
	assert.Equal(t, "costs $5", annotations["note"])
	assert.Equal(t, "shared", annotations["osn.infn.it/policy"])
	assert.Equal(t, "c1", annotations["offload.infn.it/cluster"])
	assert.Equal(t, "vk1", annotations["offload.infn.it/node"])
	assert.Equal(t, "physics", annotations["offload.infn.it/namespace"])
	assert.Equal(t, "worker-0", annotations["offload.infn.it/name"])
	for _, absent := range []string{"osn.infn.it/userid", "interlink.eu/x", "JobID", "kubectl.kubernetes.io/last-applied-configuration"} {
		assert.NotContains(t, annotations, absent)
	}
	assert.Empty(t, result.Pod.OwnerReferences)
	assert.Empty(t, result.Pod.Finalizers)
	assert.Empty(t, result.Pod.Spec.ServiceAccountName)
	assert.False(t, *result.Pod.Spec.AutomountServiceAccountToken)
	assert.False(t, *result.Pod.Spec.EnableServiceLinks)
}

func TestNamesAreUniqueAndValid(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	long := strings.Repeat("dask-worker-", 25)
	for _, name := range []string{"a", "a.b", "a-b", long + "1", long + "2", strings.Repeat("9.", 120) + "x"} {
		for _, namespace := range []string{"n1", "n2"} {
			for _, uid := range []string{"u1", "u2"} {
				remote := translate.RemoteName("default", "c", namespace, name, uid)
				assert.Empty(t, validation.IsDNS1123Label(remote), remote)
				identity := fmt.Sprint(namespace, name, uid)
				assert.Empty(t, seen[remote])
				seen[remote] = identity
			}
		}
	}
	assert.NotEqual(t, translate.RemoteName("o", "c1", "n", "p", "u"), translate.RemoteName("o", "c2", "n", "p", "u"))
}

func TestOriginLabel(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "default", translate.OriginLabel(""))
	assert.Equal(t, "alice", translate.OriginLabel("alice"))
	hashed := translate.OriginLabel("CN=alice,O=infn/" + strings.Repeat("x", 80))
	assert.Empty(t, validation.IsValidLabelValue(hashed))
	assert.NotEqual(t, hashed, translate.OriginLabel(hashed), "nobody takes another one's label by name")
}

func TestHostname(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ pod, own, want string }{
		"pod name":     {"web-0", "", "web-0"},
		"own hostname": {"web-0", "db", "db"},
		"long":         {strings.Repeat("a", 62) + "-bcd", "", strings.Repeat("a", 62)},
		"dots":         {"web.0", "", "web-0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result := translated(t, request(func(pod *corev1.Pod) { pod.Name, pod.Spec.Hostname = test.pod, test.own }), &translate.Policy{})
			assert.Equal(t, test.want, result.Pod.Spec.Hostname)
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	yes := true
	_, err := translate.Pod(request(func(pod *corev1.Pod) {
		pod.Spec.HostNetwork, pod.Spec.HostPID = true, true
		pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 80, HostPort: 8080}}
		pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
			Privileged: &yes, Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SYS_ADMIN"}},
		}
		pod.Spec.Volumes = []corev1.Volume{{Name: "home", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nas", Path: "/home"}}}}
	}), &translate.Policy{RefusedCapabilities: []corev1.Capability{"SYS_ADMIN"}})
	var refusal *translate.RefusalError
	require.ErrorAs(t, err, &refusal)
	var fields []string
	for _, problem := range refusal.Problems {
		fields = append(fields, problem.Field)
		assert.NotEmpty(t, problem.Rule)
	}
	assert.ElementsMatch(t, []string{
		"spec.hostNetwork", "spec.hostPID", "spec.containers[main].ports[80].hostPort",
		"spec.containers[main].securityContext.privileged", "spec.containers[main].securityContext.capabilities.add", "spec.volumes[home].nfs",
	}, fields)
	assert.ErrorContains(t, err, `"nas:/home"`)
}

func TestPlacementFollowsThePolicy(t *testing.T) {
	t.Parallel()
	class := "nvidia"
	r := request(func(pod *corev1.Pod) {
		pod.Spec.NodeSelector = map[string]string{"kubernetes.io/arch": "amd64", "kubernetes.io/hostname": "vk1"}
		pod.Spec.Tolerations = []corev1.Toleration{
			{Key: "virtual-node.interlink/no-schedule", Operator: corev1.TolerationOpExists},
			{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists},
			{Operator: corev1.TolerationOpExists},
		}
		pod.Spec.PriorityClassName, pod.Spec.RuntimeClassName = "high", &class
		pod.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}, PodAffinity: &corev1.PodAffinity{}}
		pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1"), "cpu": resource.MustParse("2")}
	})
	result := translated(t, r, &translate.Policy{
		NodeSelector: map[string]string{"pool": "gpu"}, Tolerations: []corev1.Toleration{{Key: "gpu"}},
		PriorityClasses: map[string]string{"high": "tenant-high"}, RuntimeClasses: map[string]string{"nvidia": "nv"},
		Resources: map[corev1.ResourceName]corev1.ResourceName{"nvidia.com/gpu": "nvidia.com/mig-1g.5gb"},
	})
	spec := result.Pod.Spec
	assert.Equal(t, map[string]string{"kubernetes.io/arch": "amd64", "pool": "gpu"}, spec.NodeSelector)
	assert.Equal(t, []corev1.Toleration{{Key: "node.kubernetes.io/not-ready", Operator: corev1.TolerationOpExists}, {Key: "gpu"}}, spec.Tolerations)
	assert.Equal(t, "tenant-high", spec.PriorityClassName)
	assert.Equal(t, "nv", *spec.RuntimeClassName)
	assert.Nil(t, spec.Affinity)
	assert.Equal(t, corev1.ResourceList{"nvidia.com/mig-1g.5gb": resource.MustParse("1"), "cpu": resource.MustParse("2")}, spec.Containers[0].Resources.Limits)
	assert.Empty(t, spec.NodeName)
	assert.Subset(t, reported(result.Report, translate.ActionDropped), []string{
		"spec.nodeSelector", "spec.tolerations", "spec.affinity.nodeAffinity", "spec.affinity.podAffinity", "spec.serviceAccountName",
	})

	bare := translated(t, r, &translate.Policy{KeepNodeAffinity: true}).Pod.Spec
	assert.Empty(t, bare.PriorityClassName)
	assert.Nil(t, bare.RuntimeClassName)
	assert.NotNil(t, bare.Affinity.NodeAffinity)
	assert.Nil(t, bare.Affinity.PodAffinity)
}

// A pod that has chosen the virtual node by one of the values that it tells gets a node with that value.
func TestChosenValueOfALabel(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "accelerator.offload.infn.it/NVIDIA-A100", translate.ValueLabel("accelerator", "NVIDIA-A100"))
	assert.Equal(t, "gpu-product.nvidia.com.offload.infn.it/A100", translate.ValueLabel("nvidia.com/gpu_Product", "A100"))
	assert.Empty(t, translate.ValueLabel("accelerator", ""), "no name")
	r := request(func(pod *corev1.Pod) {
		pod.Spec.NodeSelector = map[string]string{
			translate.ValueLabel("accelerator", "NVIDIA-A100"): "true", translate.ValueLabel("other", "x"): "true",
			translate.ValueLabel("zone", "x"): "false",
		}
	})
	result := translated(t, r, &translate.Policy{KeepNodeSelectorKeys: []string{"accelerator", "zone"}})
	assert.Equal(t, map[string]string{"accelerator": "NVIDIA-A100"}, result.Pod.Spec.NodeSelector)
	assert.Contains(t, reported(result.Report, translate.ActionMapped), "spec.nodeSelector")
	assert.Contains(t, reported(result.Report, translate.ActionDropped), "spec.nodeSelector", "what is not kept")
	assert.Empty(t, translated(t, r, &translate.Policy{}).Pod.Spec.NodeSelector)
}

func TestDNS(t *testing.T) {
	t.Parallel()
	policy := &translate.Policy{DNS: map[string]translate.ClusterDNS{"c1": {Nameservers: []string{"10.96.0.10"}, Domain: "origin.local"}}}
	two := "2"
	own := &corev1.PodDNSConfig{Searches: []string{"infn.it"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: &two}}}
	for name, test := range map[string]struct {
		cluster string
		policy  corev1.DNSPolicy
		want    corev1.DNSPolicy
	}{
		"cluster first": {"c1", corev1.DNSClusterFirst, corev1.DNSNone},
		"unset":         {"c1", "", corev1.DNSNone},
		"default":       {"c1", corev1.DNSDefault, corev1.DNSDefault},
		"not known":     {"c2", corev1.DNSClusterFirst, corev1.DNSClusterFirst},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spec := translated(t, request(func(pod *corev1.Pod) {
				pod.Annotations[interlink.AnnotationOriginCluster] = test.cluster
				pod.Spec.DNSPolicy, pod.Spec.DNSConfig = test.policy, own
			}), policy).Pod.Spec
			assert.Equal(t, test.want, spec.DNSPolicy)
			if test.want != corev1.DNSNone {
				assert.Equal(t, own, spec.DNSConfig)
				return
			}
			assert.Equal(t, &corev1.PodDNSConfig{
				Nameservers: []string{"10.96.0.10"},
				Searches:    []string{"physics.svc.origin.local", "svc.origin.local", "origin.local", "infn.it"},
				Options:     []corev1.PodDNSConfigOption{{Name: "ndots", Value: &two}},
			}, spec.DNSConfig)
		})
	}
}

func TestRequestIsNotChanged(t *testing.T) {
	t.Parallel()
	r := request(func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}}}
		pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 1, HostIP: "127.0.0.1"}}
	})
	before := r.Pod.DeepCopy()
	translated(t, r, &translate.Policy{})
	assert.Equal(t, before, r.Pod)
}

func TestPolicyValidation(t *testing.T) {
	t.Parallel()
	policy := translate.Policy{
		Volumes: []translate.VolumeRule{
			{Match: translate.VolumeMatch{Kind: "emptyDir"}},
			{Match: translate.VolumeMatch{Kind: "nfs", Path: "[x"}, Target: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}},
		},
		NodeSelector: map[string]string{"a b": "c"},
		Annotations:  map[string]string{"offload.infn.it/name": "x"},
		DNS:          map[string]translate.ClusterDNS{"*": {Nameservers: []string{"dns.example.org"}}},
	}
	err := policy.Validate("policy")
	for _, want := range []string{"policy.volumes[0].match.kind", "policy.volumes[0].target", "policy.volumes[1].match", "policy.nodeSelector", "policy.annotations", "policy.dns[*].nameservers"} {
		assert.ErrorContains(t, err, want)
	}
}

func TestAnnotationsFit(t *testing.T) {
	t.Parallel()
	result := translated(t, request(func(pod *corev1.Pod) {
		pod.Annotations["small"] = strings.Repeat("s", 100<<10)
		pod.Annotations["large"] = strings.Repeat("l", 150<<10)
	}), &translate.Policy{})
	assert.Contains(t, result.Pod.Annotations, "small")
	assert.NotContains(t, result.Pod.Annotations, "large")
	assert.Equal(t, "vk1", result.Pod.Annotations["offload.infn.it/node"])
	assert.Contains(t, reported(result.Report, translate.ActionDropped), "metadata.annotations[large]")
}

func TestReportIsBounded(t *testing.T) {
	t.Parallel()
	var report translate.Report
	for i := range 5000 {
		report = append(report, translate.Change{Action: translate.ActionDropped, Field: fmt.Sprint("field-", i)})
	}
	annotation := report.Annotation()
	assert.LessOrEqual(t, len(annotation), 16<<10)
	var decoded []translate.Change
	require.NoError(t, json.Unmarshal([]byte(annotation), &decoded))
	assert.Equal(t, "shortened, 5000 changes in all", decoded[len(decoded)-1].Detail)
	assert.Len(t, report, 5000, "the report itself is not changed")
	assert.Equal(t, "field-4999", report[4999].Field)
}
