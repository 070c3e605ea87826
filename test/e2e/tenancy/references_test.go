// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func referenceAttacks() []attack {
	return []attack{
		{name: "A33 pods that read what is Bob's", run: podReads},
		{name: "A34 an ephemeral container that reads what is Bob's", run: debugReads},
		{name: "A35 a reference before its object", run: dangling},
		{name: "A36 the name of what is still mounted", run: stillMounted},
		{name: "A46 volumes of Bob's", run: volumesOfBob},
	}
}

func podReads(t *testing.T, w *world) {
	const container = "{name: more, image: busybox, "
	for name, spec := range map[string]string{
		"volume":               "volumes: [{name: v, secret: {secretName: s-X}}]",
		"optional volume":      "volumes: [{name: v, secret: {secretName: s-X, optional: true}}]",
		"volume of configmap":  "volumes: [{name: v, configMap: {name: c-X}}]",
		"projected secret":     "volumes: [{name: v, projected: {sources: [{downwardAPI: {}}, {secret: {name: s-X}}]}}]",
		"projected configmap":  "volumes: [{name: v, projected: {sources: [{configMap: {name: c-X}}]}}]",
		"claim":                "volumes: [{name: v, persistentVolumeClaim: {claimName: v-X}}]",
		"pull secret":          "imagePullSecrets: [{name: s-X}]",
		"init env":             "initContainers: [" + container + "env: [{name: A, valueFrom: {secretKeyRef: {name: s-X, key: of}}}]}]",
		"init envFrom":         "initContainers: [" + container + "envFrom: [{secretRef: {name: s-X}}]}]",
		"sidecar envFrom":      "initContainers: [" + container + "restartPolicy: Always, envFrom: [{configMapRef: {name: c-X}}]}]",
		"service account":      "serviceAccountName: sa-X",
		"env MORE":             container + "env: [{name: A, valueFrom: {secretKeyRef: {name: s-X, key: of}}}]}",
		"env of configmap":     container + "env: [{name: A, valueFrom: {configMapKeyRef: {name: c-X, key: of}}}]}",
		"optional env MORE":    container + "env: [{name: A, valueFrom: {secretKeyRef: {name: s-X, key: of, optional: true}}}]}",
		"envFrom secret MORE":  container + "envFrom: [{prefix: A, secretRef: {name: s-X}}]}",
		"envFrom config MORE":  container + "envFrom: [{configMapRef: {name: c-X, optional: true}}]}",
		"second of many":       container + "envFrom: [{secretRef: {name: s-a}}, {secretRef: {name: s-X}}]}",
		"ephemeral claim":      "volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], dataSource: {kind: PersistentVolumeClaim, name: v-X}, resources: {requests: {storage: 1Gi}}}}}}]",
		"csi":                  "volumes: [{name: v, csi: {driver: example.org, nodePublishSecretRef: {name: s-X}}}]",
		"cephfs":               "volumes: [{name: v, cephfs: {monitors: [m], secretRef: {name: s-X}}}]",
		"iscsi":                "volumes: [{name: v, iscsi: {targetPortal: p, iqn: iqn.2001-04.org.example:x, lun: 0, secretRef: {name: s-X}}}]",
		"flexVolume":           "volumes: [{name: v, flexVolume: {driver: example.org/x, secretRef: {name: s-X}}}]",
		"azureFile":            "volumes: [{name: v, azureFile: {secretName: s-X, shareName: x}}]",
		"rbd":                  "volumes: [{name: v, rbd: {monitors: [m], image: i, secretRef: {name: s-X}}}]",
		"scaleIO":              "volumes: [{name: v, scaleIO: {gateway: g, system: s, volumeName: v, secretRef: {name: s-X}}}]",
		"storageos":            "volumes: [{name: v, storageos: {volumeName: v, secretRef: {name: s-X}}}]",
		"resource claim":       "resourceClaims: [{name: c, resourceClaimName: rc-X}]",
		"host path of kubelet": "volumes: [{name: v, hostPath: {path: /var/lib/kubelet}}]",
	} {
		t.Run(name, func(t *testing.T) {
			pod := func(suffix string) string {
				containers, more := "{name: main, image: busybox}", ", "+spec
				if strings.HasPrefix(spec, container) {
					containers, more = containers+", "+spec, ""
				}
				return strings.ReplaceAll("{metadata: {name: "+unique("a33")+"}, spec: {nodeSelector: {no: where}, containers: ["+containers+"]"+more+"}}", "-X", "-"+suffix)
			}
			got := w.alice.do(t, http.MethodPost, "v1/pods", pod("b"))
			// What Kubernetes itself calls invalid comes no further.
			require.Contains(t, []int{http.StatusForbidden, http.StatusUnprocessableEntity}, got.code, "%s", got.body)
			assert.Regexp(t, notMine+`|is not allowed|are not allowed|Invalid|invalid`, got.status.Message)
			got = w.alice.do(t, http.MethodPost, "v1/pods?dryRun=All", pod("b"))
			assert.NotEqual(t, http.StatusCreated, got.code)
			const everybodys = "csi cephfs iscsi flexVolume azureFile rbd scaleIO storageos resource claim host path of kubelet"
			if ownMay := !strings.Contains(everybodys, name); ownMay {
				w.alice.creates(t, "v1/pods?dryRun=All", pod("a"))
			}
		})
	}
}

func debugReads(t *testing.T, w *world) {
	debugger := func(secret string) string {
		return "{spec: {ephemeralContainers: [{name: " + unique("debug") + ", image: '" + busybox + "', command: [sleep, '1'], envFrom: [{secretRef: {name: " + secret + "}}]}]}}"
	}
	name := unique("a34")
	w.alice.creates(t, "v1/pods", pauses(name, ""))
	for _, kind := range []string{mergePatch, strategicPatch} {
		w.alice.denied(t, `secrets "s-b": `+notMine, http.MethodPatch, "v1/pods/"+name+"/ephemeralcontainers", debugger("s-b"), "Content-Type", kind)
	}
	w.alice.denied(t, `secrets "nothing": `+notMine, http.MethodPatch, "v1/pods/"+name+"/ephemeralcontainers", debugger("nothing"), "Content-Type", strategicPatch)
	w.alice.denied(t, notYours, http.MethodPatch, "v1/pods/p-b/ephemeralcontainers", debugger("s-a"), "Content-Type", strategicPatch)
	assert.NotContains(t, w.root.gets(t, "v1/pods/"+name).object.Object["spec"], "ephemeralContainers")
	got := w.alice.do(t, http.MethodPatch, "v1/pods/"+name+"/ephemeralcontainers", debugger("s-a"), "Content-Type", strategicPatch)
	assert.Equal(t, http.StatusOK, got.code, "the own secret: %s", got.body)
	w.alice.removes(t, "v1/pods/"+name)
}

func dangling(t *testing.T, w *world) {
	name := unique("a35")
	pod := pauses(name, ", nodeSelector: {no: where}, volumes: [{name: v, secret: {secretName: "+name+", optional: true}}]")
	w.alice.denied(t, `secrets "`+name+`": `+notMine, http.MethodPost, "v1/pods", pod)
	// A Deployment may come first: its pods are looked at again.
	w.alice.creates(t, "apps/v1/deployments", "{metadata: {name: "+name+"}, spec: {selector: {matchLabels: {a: "+name+"}}, template: {metadata: {labels: {a: "+name+
		"}}, spec: {volumes: [{name: v, secret: {secretName: "+name+", optional: true}}], containers: [{name: a, image: '"+busybox+"', command: [sleep, infinity]}]}}}}")
	w.bob.creates(t, "v1/secrets", "{metadata: {name: "+name+"}, stringData: {of: "+w.marker+"}}")
	stays(t, "Alice has no pod with Bob's secret", func() bool {
		return len(w.root.gets(t, "v1/pods?labelSelector=a%3D"+name).items(t)) == 0
	})
	w.alice.denied(t, `secrets "`+name+`": `+notMine, http.MethodPost, "v1/pods", pod)
	// The pod of offloaded work, which is made before its objects, waits until they are its owner's.
	gated := strings.Replace(pauses(name, ", nodeSelector: {no: where}, schedulingGates: [{name: offload.infn.it/objects}], volumes: [{name: v, secret: {secretName: "+name+"-2}}]"), name, name+"-gated", 1)
	w.alice.creates(t, "v1/pods", gated)
	got := w.bob.do(t, http.MethodPost, "v1/secrets", "{metadata: {name: "+name+"-2}}")
	require.Equal(t, http.StatusForbidden, got.code, "%s", got.body)
	assert.Contains(t, got.status.Message, "is referred to by an object of somebody else; use another")
	w.alice.denied(t, `secrets "`+name+`-2": `+notMine, http.MethodPatch, "v1/pods/"+name+"-gated", "{spec: {schedulingGates: null}}", "Content-Type", mergePatch)
	w.alice.creates(t, "v1/secrets", "{metadata: {name: "+name+"-2}}")
	got = w.alice.patches(t, "v1/pods/"+name+"-gated", "{spec: {schedulingGates: null}}")
	assert.Equal(t, http.StatusOK, got.code, "%s", got.body)
	w.alice.removes(t, "apps/v1/deployments/"+name)
}

func stillMounted(t *testing.T, w *world) {
	name := unique("a36")
	w.alice.creates(t, "v1/secrets", "{metadata: {name: "+name+"}}")
	w.alice.creates(t, "v1/pods", pauses(name, ", volumes: [{name: v, secret: {secretName: "+name+", optional: true}}]"))
	w.alice.removes(t, "v1/secrets/"+name)
	got := w.bob.do(t, http.MethodPost, "v1/secrets", "{metadata: {name: "+name+"}, stringData: {of: "+w.marker+"}}")
	assert.Contains(t, []int{http.StatusForbidden, http.StatusConflict}, got.code, "%s", got.body)
	assert.Contains(t, got.status.Message, "the name "+name+" is referred to by an object of somebody else; use another")
	w.alice.creates(t, "v1/secrets", "{metadata: {name: "+name+"}}")
	w.alice.removes(t, "v1/pods/"+name)
}

func volumesOfBob(t *testing.T, w *world) {
	named := func(name, more string) string {
		return "{metadata: {name: " + name + "}, spec: {accessModes: [ReadWriteOnce], storageClassName: none, resources: {requests: {storage: 1Gi}}, " + more + "}}"
	}
	claim := func(more string) string { return named(unique("a46"), more) }
	volume := unique("a46")
	w.root.do(t, http.MethodPost, "/api/v1/persistentvolumes", "{metadata: {name: "+volume+", labels: {"+ownerKey+": "+w.bob.id+
		"}}, spec: {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], storageClassName: none, hostPath: {path: /nowhere}}}")
	t.Cleanup(func() {
		_, _ = w.root.try(context.WithoutCancel(t.Context()), http.MethodDelete, "/api/v1/persistentvolumes/"+volume, "")
	})
	for more, words := range map[string]string{
		"dataSource: {kind: PersistentVolumeClaim, name: v-b}":                                   `persistentvolumeclaims "v-b": ` + notMine,
		"dataSourceRef: {kind: PersistentVolumeClaim, name: v-b}":                                `persistentvolumeclaims "v-b": ` + notMine,
		"dataSource: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: of-bob}":    `volumesnapshots.snapshot.storage.k8s.io "of-bob": ` + notMine,
		"dataSourceRef: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: of-bob}": `volumesnapshots.snapshot.storage.k8s.io "of-bob": ` + notMine,
		"volumeName: " + volume: `persistentvolumes "` + volume + `": ` + notMine,
		"volumeName: nothing":   `persistentvolumes "nothing": ` + notMine,
	} {
		w.alice.denied(t, words, http.MethodPost, "v1/persistentvolumeclaims", claim(more))
	}
	w.alice.denied(t, "mt: ", http.MethodGet, "/api/v1/persistentvolumes/"+volume, "")
	w.alice.denied(t, "mt: ", http.MethodPost, "/api/v1/persistentvolumes", "{metadata: {name: x}}")
	// A StatefulSet takes the claims that have the right names.
	name := unique("a46")
	w.bob.creates(t, "v1/persistentvolumeclaims", named("data-"+name+"-0", "volumeMode: Filesystem"))
	set := func(name string) string {
		return "{metadata: {name: " + name + "}, spec: {serviceName: x, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: b}]}}, " +
			"volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]}}"
	}
	w.alice.denied(t, "spec.volumeClaimTemplates: the claim data-"+name+"-0 is not yours", http.MethodPost, "apps/v1/statefulsets", set(name))
	w.alice.creates(t, "apps/v1/statefulsets?dryRun=All", set(name+"-own"))
	made := w.alice.creates(t, "v1/persistentvolumeclaims", claim("dataSource: {kind: PersistentVolumeClaim, name: v-a}"))
	owned(t, w.alice, made.GetLabels())
}
