// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Class says what translation does with a field.
type Class string

const (
	// Kept fields are copied unchanged.
	Kept Class = "kept"
	// Mapped fields are rewritten, in part or as a whole.
	Mapped Class = "mapped"
	// Dropped fields are left out and recorded.
	Dropped Class = "dropped"
	// Refused fields make the pod refused when they are set.
	Refused Class = "refused"
)

// PodFields classifies the fields of a pod's spec by their JSON names.
func PodFields() map[string]Class {
	return map[string]Class{
		"volumes": Mapped, "initContainers": Mapped, "containers": Mapped, "ephemeralContainers": Dropped,
		"restartPolicy": Kept, "terminationGracePeriodSeconds": Kept, "activeDeadlineSeconds": Kept,
		"dnsPolicy": Mapped, "dnsConfig": Mapped, "hostAliases": Kept,
		"nodeSelector": Mapped, "serviceAccountName": Dropped, "serviceAccount": Dropped,
		"automountServiceAccountToken": Mapped, "nodeName": Mapped,
		"hostNetwork": Refused, "hostPID": Refused, "hostIPC": Refused,
		"shareProcessNamespace": Kept, "securityContext": Kept, "imagePullSecrets": Mapped,
		"hostname": Kept, "subdomain": Kept, "setHostnameAsFQDN": Kept, "hostnameOverride": Kept,
		"affinity": Mapped, "schedulerName": Dropped, "tolerations": Mapped,
		"priorityClassName": Mapped, "priority": Dropped, "preemptionPolicy": Dropped,
		"readinessGates": Dropped, "runtimeClassName": Mapped, "enableServiceLinks": Mapped,
		"overhead": Dropped, "topologySpreadConstraints": Dropped, "os": Kept, "hostUsers": Kept,
		"schedulingGates": Dropped, "schedulingGroup": Dropped, "evictionResponders": Dropped,
		"resourceClaims": Refused, "resources": Mapped,
	}
}

// ContainerFields classifies the fields of a container by their JSON names.
func ContainerFields() map[string]Class {
	return map[string]Class{
		"name": Kept, "image": Kept, "command": Kept, "args": Kept, "workingDir": Kept,
		"ports": Mapped, "envFrom": Mapped, "env": Mapped, "resources": Mapped,
		"resizePolicy": Kept, "restartPolicy": Kept, "restartPolicyRules": Kept,
		"volumeMounts": Kept, "volumeDevices": Kept,
		"livenessProbe": Kept, "readinessProbe": Kept, "startupProbe": Kept, "lifecycle": Kept,
		"terminationMessagePath": Kept, "terminationMessagePolicy": Kept, "imagePullPolicy": Kept,
		"securityContext": Kept, "stdin": Kept, "stdinOnce": Kept, "tty": Kept,
	}
}

// VolumeFields classifies the sources of a volume by their JSON names. Sources
// that are refused run when the policy maps them.
func VolumeFields() map[string]Class {
	classes := map[string]Class{
		"emptyDir": Kept, "configMap": Mapped, "secret": Mapped, "projected": Mapped, "downwardAPI": Mapped,
	}
	for _, source := range refusedVolumes() {
		classes[source] = Refused
	}
	return classes
}

// refusedVolumes are the sources that name something of the origin cluster or of
// one of its nodes.
func refusedVolumes() []string {
	return []string{
		"hostPath", "gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "nfs", "iscsi", "glusterfs",
		"persistentVolumeClaim", "rbd", "flexVolume", "cinder", "cephfs", "flocker", "fc", "azureFile",
		"vsphereVolume", "quobyte", "azureDisk", "photonPersistentDisk", "portworxVolume", "scaleIO",
		"storageos", "csi", "ephemeral", "image",
	}
}

// setFields returns the JSON names of the fields of a struct that are not zero.
func setFields(object any) []string {
	value := reflect.Indirect(reflect.ValueOf(object))
	var names []string
	for i := range value.NumField() {
		if value.Field(i).IsZero() {
			continue
		}
		name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("json"), ",")
		if name != "" {
			names = append(names, name)
		}
	}
	return names
}

// unclassified refuses set fields that no table knows: a later version of
// k8s.io/api added them, and copying or dropping them blindly would both be wrong.
func (t *translation) unclassified(spec *corev1.PodSpec) {
	t.unknownFields("spec", spec, PodFields())
	for _, group := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range group {
			t.unknownFields(fmt.Sprintf("spec.containers[%s]", group[i].Name), &group[i], ContainerFields())
		}
	}
	for _, path := range t.request.Unknown {
		t.refuse(Problem{Field: path, Rule: "this version does not know the field", Remedy: "remove it, or ask the site to update its sidecar"})
	}
}

func (t *translation) unknownFields(path string, object any, known map[string]Class) {
	for _, name := range setFields(object) {
		if _, found := known[name]; !found {
			t.refuse(Problem{Field: path + "." + name, Rule: "this version does not know the field", Remedy: "remove it, or ask the site to update its sidecar"})
		}
	}
}

// volumeKind is the JSON name of a volume's source; an empty one is an emptyDir.
func volumeKind(source *corev1.VolumeSource) string {
	if set := setFields(source); len(set) > 0 {
		return slices.Min(set)
	}
	return "emptyDir"
}
