// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package fidelity_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/lab/offload"
)

func siteCases() []fidelityCase {
	return []fidelityCase{
		{name: "14 volumes that cannot travel are refused", run: volumesRefused},
		{name: "14 volumes that the site maps", where: atSite("site-volumes"), run: volumesMapped},
		{name: "15 the host and its privileges are refused", run: hostRefused},
		{name: "15 what a container may ask for is kept", run: securityKept},
		{name: "15 the target's Pod Security level", where: atSite("site-strict"), run: podSecurity},
		{name: "16 names of the origin cluster", run: clusterLocal},
		{name: "16 a Job with its finalizer, owner and labels", run: jobPods},
	}
}

// siteNamespace is a namespace of the origin that the site takes pods of, and where they go.
type siteNamespace struct{ origin, target string }

func siteNamespaces() []siteNamespace {
	return []siteNamespace{
		{"site-volumes", "cms-site"},
		{"site-strict", "cms-strict"},
		{"site-doomed", "cms-doomed"},
		{"site-limits", "cms-limits"},
		{"site-preempted", "cms-preempted"},
		{"site-logs", "cms-logs"},
		{"site-busy", "cms-busy"},
	}
}

// atSite is the room with that name.
func atSite(origin string) func(*world) (string, string, *offload.Path) {
	return func(w *world) (string, string, *offload.Path) {
		for _, one := range siteNamespaces() {
			if one.origin == origin {
				return origin, one.target, w.site
			}
		}
		return origin, "", w.site
	}
}

// siteSettings are what the site's administrator has decided.
func siteSettings() map[string]any {
	namespaces := map[string]any{}
	for _, one := range siteNamespaces() {
		namespaces[one.origin] = one.target
	}
	rule := func(match, target map[string]any) map[string]any {
		return map[string]any{"match": match, "target": target}
	}
	claim := func(name string, readOnly bool) map[string]any {
		return map[string]any{"persistentVolumeClaim": map[string]any{"claimName": name, "readOnly": readOnly}}
	}
	scratch := map[string]any{"emptyDir": map[string]any{}}
	return map[string]any{
		"namespace": map[string]any{"mode": "map", "fixed": "", "map": namespaces},
		"policy": map[string]any{
			"refusedCapabilities": []string{"SYS_ADMIN"},
			"volumes": []any{
				rule(map[string]any{"kind": "persistentVolumeClaim", "name": "home-*"}, claim("home", false)),
				rule(map[string]any{"kind": "nfs", "server": "nfs.example.org", "path": "/export/home"}, claim("home", false)),
				rule(map[string]any{"kind": "hostPath", "path": "/cvmfs/*"}, claim("home", true)),
				rule(map[string]any{"kind": "csi", "driver": "csi.juicefs.com"}, scratch),
				rule(map[string]any{"kind": "ephemeral", "storageClass": "scratch"}, scratch),
			},
		},
	}
}

func volumesRefused(t *testing.T, r *room) {
	pod := r.shell("stuck", "true")
	pod.Spec.NodeName = r.node // a scheduler would wait for the claims
	class := "scratch"
	claim := &corev1.PersistentVolumeClaimTemplate{Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}, StorageClassName: &class,
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: quantity("1Mi")}},
	}}
	sources := map[string]corev1.VolumeSource{
		"hostPath":              {HostPath: &corev1.HostPathVolumeSource{Path: "/cvmfs"}},
		"nfs":                   {NFS: &corev1.NFSVolumeSource{Server: "nfs.example.org", Path: "/export"}},
		"csi":                   {CSI: &corev1.CSIVolumeSource{Driver: "csi.juicefs.com"}},
		"ephemeral":             {Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: claim}},
		"image":                 {Image: &corev1.ImageVolumeSource{Reference: busybox}},
		"persistentVolumeClaim": {PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "home"}},
	}
	for kind, source := range sources {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "v-" + strings.ToLower(kind), VolumeSource: source})
	}
	created := r.create(t, pod)
	seen := r.awaitPhase(t, "stuck", corev1.PodFailed)
	assert.Equal(t, "Refused", seen.Status.Reason)
	for kind := range sources {
		assert.Contains(t, seen.Status.Message, "spec.volumes[v-"+strings.ToLower(kind)+"]."+kind, "each is named, at once")
	}
	assert.Contains(t, seen.Status.Message, "names storage of the origin cluster", "the rule")
	assert.Contains(t, seen.Status.Message, "policy.volumes", "and the remedy")
	assert.Contains(t, seen.Status.Message, "/cvmfs")
	oneForEach(t, seen)
	assert.Empty(t, r.far(t, created))
	eventually(t.Context(), t, "an event says it too", func() (bool, string) {
		described := r.kubectl(t, "describe", "pod", "stuck")
		return strings.Contains(described, "Refused") && strings.Contains(described, "v-nfs"), described
	})
}

// claim makes a bound claim of a directory of a node.
func claim(t *testing.T, client kubernetes.Interface, namespace, name string, labels map[string]string) {
	t.Helper()
	volume := namespace + "-" + name
	class, size := "", corev1.ResourceList{corev1.ResourceStorage: quantity("1Gi")}
	kind := corev1.HostPathDirectoryOrCreate
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteMany}
	t.Cleanup(func() {
		ctx, cancel := cleanupContext(t)
		defer cancel()
		assert.NoError(t, client.CoreV1().PersistentVolumeClaims(namespace).Delete(ctx, name, metav1.DeleteOptions{}))
		assert.NoError(t, client.CoreV1().PersistentVolumes().Delete(ctx, volume, metav1.DeleteOptions{}))
	})
	_, err := client.CoreV1().PersistentVolumes().Create(t.Context(), &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: volume, Labels: labels},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: size, AccessModes: modes, StorageClassName: class, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			ClaimRef:               &corev1.ObjectReference{Namespace: namespace, Name: name},
			PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/lib/fidelity/" + volume, Type: &kind}},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = client.CoreV1().PersistentVolumeClaims(namespace).Create(t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: modes, StorageClassName: &class, VolumeName: volume, Resources: corev1.VolumeResourceRequirements{Requests: size},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

func volumesMapped(t *testing.T, r *room) {
	claim(t, r.af, r.namespace, "home-alice", nil)
	claim(t, r.caas, r.target, "home", map[string]string{"osn.infn.it/userid": r.owner})
	writer := r.shell("writer", "echo kept >/home/alice/file")
	writer.Spec.Volumes = []corev1.Volume{{Name: "home", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "home-alice"}}}}
	writer.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "home", MountPath: "/home/alice"}}
	r.run(t, writer)

	reader := r.shell("reader", "cat /home/alice/file /cvmfs/file; echo x >/scratch/x; echo y >/juice/y; touch /cvmfs/z 2>&1")
	reader.Spec.NodeName = r.node // no storage class of the origin is behind the ephemeral volume
	class := "scratch"
	reader.Spec.Volumes = []corev1.Volume{
		{Name: "home", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nfs.example.org", Path: "/export/home"}}},
		{Name: "cvmfs", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/cvmfs/cms.example.org"}}},
		{Name: "juice", VolumeSource: corev1.VolumeSource{CSI: &corev1.CSIVolumeSource{Driver: "csi.juicefs.com"}}},
		{Name: "scratch", VolumeSource: corev1.VolumeSource{Ephemeral: &corev1.EphemeralVolumeSource{VolumeClaimTemplate: &corev1.PersistentVolumeClaimTemplate{
			Spec: corev1.PersistentVolumeClaimSpec{
				AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &class,
				Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: quantity("1Mi")}},
			},
		}}}},
	}
	for name, path := range map[string]string{"home": "/home/alice", "cvmfs": "/cvmfs", "juice": "/juice", "scratch": "/scratch"} {
		reader.Spec.Containers[0].VolumeMounts = append(reader.Spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: name, MountPath: path})
	}
	created := r.create(t, reader)
	r.awaitPhase(t, "reader", corev1.PodFailed) // by its last command
	log := r.logs(t, "reader", "main")
	assert.True(t, strings.HasPrefix(log, strings.Repeat("kept\n", 2)), log)
	assert.Contains(t, log, "Read-only file system")
	report := r.awaitFar(t, created).Annotations[reportAnnotation]
	for _, field := range []string{"spec.volumes[home].nfs", "spec.volumes[cvmfs].hostPath", "spec.volumes[juice].csi", "spec.volumes[scratch].ephemeral"} {
		assert.Contains(t, report, field)
	}

	// A rule that does not match refuses as no rule does.
	other := r.shell("other", "true")
	other.Spec.Volumes = []corev1.Volume{{Name: "home", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{Server: "nfs.example.org", Path: "/export/other"}}}}
	r.create(t, other)
	assert.Contains(t, r.awaitPhase(t, "other", corev1.PodFailed).Status.Message, "nfs.example.org:/export/other")
}

func hostRefused(t *testing.T, r *room) {
	yes := true
	pod := r.shell("greedy", "true")
	pod.Spec.HostNetwork, pod.Spec.HostPID, pod.Spec.HostIPC = true, true, true
	pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8080, HostPort: 8080}}
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: &yes}
	created := r.create(t, pod)
	seen := r.awaitPhase(t, "greedy", corev1.PodFailed)
	assert.Equal(t, "Refused", seen.Status.Reason)
	for _, field := range []string{"spec.hostNetwork", "spec.hostPID", "spec.hostIPC", "hostPort", "securityContext.privileged", "policy.allowPrivileged"} {
		assert.Contains(t, seen.Status.Message, field)
	}
	assert.Empty(t, r.far(t, created))
}

func securityKept(t *testing.T, r *room) {
	user, group, yes, no := int64(1234), int64(2345), true, false
	pod := r.shell("secured", "id -u; id -g; id -G; stat -c %g /shared; cat /proc/sys/kernel/shm_rmid_forced; grep -c . /proc/self/status >/dev/null; touch /x 2>&1; grep CapEff /proc/self/status; grep NoNewPrivs /proc/self/status; true")
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsUser: &user, RunAsGroup: &group, FSGroup: &group, SupplementalGroups: []int64{77}, RunAsNonRoot: &yes,
		Sysctls: []corev1.Sysctl{{Name: "kernel.shm_rmid_forced", Value: "1"}},
	}
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		ReadOnlyRootFilesystem: &yes, AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	pod.Spec.Volumes = []corev1.Volume{{Name: "shared", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	pod.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "shared", MountPath: "/shared"}}
	log := r.run(t, pod)
	assert.Regexp(t, `^1234\n2345\n(77 2345|2345 77)\n2345\n1\n`, log)
	assert.Contains(t, log, "Read-only file system")
	assert.Contains(t, log, "CapEff:\t0000000000000000")
	assert.Contains(t, log, "NoNewPrivs:\t1")
}

func podSecurity(t *testing.T, r *room) {
	patch := []byte(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"baseline"}}}`)
	_, err := r.caas.CoreV1().Namespaces().Patch(t.Context(), r.target, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	require.NoError(t, err)
	pod := r.shell("capable", "true")
	pod.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"NET_ADMIN"}}}
	created := r.create(t, pod)
	seen := r.awaitPhase(t, "capable", corev1.PodFailed)
	assert.Equal(t, "Refused", seen.Status.Reason)
	assert.Contains(t, seen.Status.Message, `violates PodSecurity "baseline`)
	assert.Contains(t, seen.Status.Message, "NET_ADMIN")
	assert.Empty(t, r.far(t, created))

	admin := r.shell("admin", "true")
	admin.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: []corev1.Capability{"SYS_ADMIN"}}}
	r.create(t, admin)
	seen = r.awaitPhase(t, "admin", corev1.PodFailed)
	assert.Contains(t, seen.Status.Message, `capabilities.add = "SYS_ADMIN"`)
	assert.Contains(t, seen.Status.Message, "policy.refusedCapabilities", "the site's own rule")
	assert.Equal(t, "fine\n", r.run(t, r.shell("plain", "echo fine")))
}
