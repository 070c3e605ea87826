// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// What pods and other objects refer to by name alone.
var (
	secrets         = schema.GroupResource{Resource: "secrets"}
	configMaps      = schema.GroupResource{Resource: "configmaps"}
	claims          = schema.GroupResource{Resource: "persistentvolumeclaims"}
	volumes         = schema.GroupResource{Resource: "persistentvolumes"}
	serviceAccounts = schema.GroupResource{Resource: "serviceaccounts"}
	services        = schema.GroupResource{Resource: "services"}
	endpoints       = schema.GroupResource{Resource: "endpoints"}
	podResource     = schema.GroupResource{Resource: "pods"}
	eventResource   = schema.GroupResource{Resource: "events"}
	newEvents       = schema.GroupResource{Group: "events.k8s.io", Resource: "events"}
	resourceClaims  = schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceclaims"}
	claimTemplates  = schema.GroupResource{Group: "resource.k8s.io", Resource: "resourceclaimtemplates"}
	podGroups       = schema.GroupResource{Group: "scheduling.k8s.io", Resource: "podgroups"}
	// ingressHosts is no resource: an Ingress takes a name on the network by it.
	ingressHosts = schema.GroupResource{Group: "networking.k8s.io", Resource: "ingress hosts"}
)

// autoscaling is the group of HorizontalPodAutoscalers.
const autoscaling = "autoscaling"

// defaultServiceAccount is in each namespace, of nobody and without rights.
const defaultServiceAccount = "default"

// Reference is a name that an object gives of another in its namespace.
type Reference struct {
	Resource schema.GroupResource
	Name     string
	// Path is the field, for messages.
	Path string
	// Later means that the object is only made afterwards, by a controller: it MUST NOT
	// be somebody else's, but it may be missing.
	Later bool
}

// visitor collects references and what it cannot read.
type visitor struct {
	references []Reference
	unknown    []string
}

func (v *visitor) add(resource schema.GroupResource, name, path string) {
	if name != "" {
		v.references = append(v.references, Reference{Resource: resource, Name: name, Path: path})
	}
}

// PodReferences are all that a pod of this spec has others resolve. unknown names fields
// of a kind that this program does not know; nobody can tell what they refer to.
func PodReferences(spec *corev1.PodSpec, pod, path string) (references []Reference, unknown []string) {
	v := &visitor{}
	v.add(serviceAccounts, spec.ServiceAccountName, path+".serviceAccountName")
	v.add(serviceAccounts, spec.DeprecatedServiceAccount, path+".serviceAccount")
	for i, secret := range spec.ImagePullSecrets {
		v.add(secrets, secret.Name, fmt.Sprintf("%s.imagePullSecrets[%d]", path, i))
	}
	for i := range spec.Volumes {
		v.volume(&spec.Volumes[i], pod, fmt.Sprintf("%s.volumes[%d]", path, i))
	}
	for i := range spec.InitContainers {
		v.container(&spec.InitContainers[i], fmt.Sprintf("%s.initContainers[%d]", path, i))
	}
	for i := range spec.Containers {
		v.container(&spec.Containers[i], fmt.Sprintf("%s.containers[%d]", path, i))
	}
	for i := range spec.EphemeralContainers {
		common := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		v.container(&common, fmt.Sprintf("%s.ephemeralContainers[%d]", path, i))
	}
	for i, claim := range spec.ResourceClaims {
		at := fmt.Sprintf("%s.resourceClaims[%d]", path, i)
		v.add(resourceClaims, deref(claim.ResourceClaimName), at+".resourceClaimName")
		v.add(claimTemplates, deref(claim.ResourceClaimTemplateName), at+".resourceClaimTemplateName")
	}
	if group := spec.SchedulingGroup; group != nil {
		v.add(podGroups, deref(group.PodGroupName), path+".schedulingGroup.podGroupName")
	}
	return v.references, v.unknown
}

func deref(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

func (v *visitor) container(container *corev1.Container, path string) {
	for i, from := range container.EnvFrom {
		at := fmt.Sprintf("%s.envFrom[%d]", path, i)
		if from.SecretRef != nil {
			v.add(secrets, from.SecretRef.Name, at+".secretRef")
		}
		if from.ConfigMapRef != nil {
			v.add(configMaps, from.ConfigMapRef.Name, at+".configMapRef")
		}
		if from.SecretRef == nil && from.ConfigMapRef == nil {
			v.unknown = append(v.unknown, at)
		}
	}
	for i := range container.Env {
		v.env(container.Env[i].ValueFrom, fmt.Sprintf("%s.env[%d].valueFrom", path, i))
	}
}

func (v *visitor) env(from *corev1.EnvVarSource, path string) {
	switch {
	case from == nil:
	case from.SecretKeyRef != nil:
		v.add(secrets, from.SecretKeyRef.Name, path+".secretKeyRef")
	case from.ConfigMapKeyRef != nil:
		v.add(configMaps, from.ConfigMapKeyRef.Name, path+".configMapKeyRef")
	case from.FieldRef != nil, from.ResourceFieldRef != nil, from.FileKeyRef != nil: // of the pod itself
	default:
		v.unknown = append(v.unknown, path)
	}
}

// volume reads one volume. A source of an unknown type may name any object: it is
// reported, never skipped.
func (v *visitor) volume(volume *corev1.Volume, pod, path string) {
	switch source := volume.VolumeSource; {
	case source.Secret != nil:
		v.add(secrets, source.Secret.SecretName, path+".secret")
	case source.ConfigMap != nil:
		v.add(configMaps, source.ConfigMap.Name, path+".configMap")
	case source.PersistentVolumeClaim != nil:
		v.add(claims, source.PersistentVolumeClaim.ClaimName, path+".persistentVolumeClaim")
	case source.Projected != nil:
		for i := range source.Projected.Sources {
			v.projection(&source.Projected.Sources[i], fmt.Sprintf("%s.projected.sources[%d]", path, i))
		}
	case source.Ephemeral != nil:
		v.ephemeral(source.Ephemeral, pod, volume.Name, path+".ephemeral")
	case source.CSI != nil:
		v.local(source.CSI.NodePublishSecretRef, path+".csi.nodePublishSecretRef")
	case source.EmptyDir != nil, source.DownwardAPI != nil, source.Image != nil, source.HostPath != nil, source.NFS != nil:
	default:
		v.oldVolume(&source, path)
	}
}

// oldVolume reads the sources that name storage directly; a site has to allow them by
// name before it comes to their references.
func (v *visitor) oldVolume(source *corev1.VolumeSource, path string) {
	switch {
	case source.AzureFile != nil:
		v.add(secrets, source.AzureFile.SecretName, path+".azureFile")
	case source.CephFS != nil:
		v.local(source.CephFS.SecretRef, path+".cephfs.secretRef")
	case source.Cinder != nil:
		v.local(source.Cinder.SecretRef, path+".cinder.secretRef")
	case source.FlexVolume != nil:
		v.local(source.FlexVolume.SecretRef, path+".flexVolume.secretRef")
	case source.Glusterfs != nil:
		v.add(endpoints, source.Glusterfs.EndpointsName, path+".glusterfs.endpoints")
	case source.ISCSI != nil:
		v.local(source.ISCSI.SecretRef, path+".iscsi.secretRef")
	case source.RBD != nil:
		v.local(source.RBD.SecretRef, path+".rbd.secretRef")
	case source.ScaleIO != nil:
		v.local(source.ScaleIO.SecretRef, path+".scaleIO.secretRef")
	case source.StorageOS != nil:
		v.local(source.StorageOS.SecretRef, path+".storageos.secretRef")
	case source.AWSElasticBlockStore != nil, source.AzureDisk != nil, source.FC != nil, source.Flocker != nil,
		source.GCEPersistentDisk != nil, source.GitRepo != nil, source.PhotonPersistentDisk != nil,
		source.PortworxVolume != nil, source.Quobyte != nil, source.VsphereVolume != nil:
	default:
		v.unknown = append(v.unknown, path)
	}
}

func (v *visitor) local(secret *corev1.LocalObjectReference, path string) {
	if secret != nil {
		v.add(secrets, secret.Name, path)
	}
}

func (v *visitor) projection(source *corev1.VolumeProjection, path string) {
	switch {
	case source.Secret != nil:
		v.add(secrets, source.Secret.Name, path+".secret")
	case source.ConfigMap != nil:
		v.add(configMaps, source.ConfigMap.Name, path+".configMap")
	case source.DownwardAPI != nil, source.ServiceAccountToken != nil, source.ClusterTrustBundle != nil, source.PodCertificate != nil:
	default:
		v.unknown = append(v.unknown, path)
	}
}

// ephemeral is a claim that a controller makes under a name that follows from the pod's.
func (v *visitor) ephemeral(source *corev1.EphemeralVolumeSource, pod, volume, path string) {
	if pod != "" {
		v.references = append(v.references, Reference{Resource: claims, Name: pod + "-" + volume, Path: path, Later: true})
	}
	if source.VolumeClaimTemplate != nil {
		v.claim(&source.VolumeClaimTemplate.Spec, path+".volumeClaimTemplate.spec")
	}
}

// claim reads where a volume takes its content from.
func (v *visitor) claim(spec *corev1.PersistentVolumeClaimSpec, path string) {
	if spec.VolumeName != "" {
		v.references = append(v.references, Reference{Resource: volumes, Name: spec.VolumeName, Path: path + ".volumeName"})
	}
	if from := spec.DataSource; from != nil {
		v.dataSource(deref(from.APIGroup), from.Kind, "", from.Name, path+".dataSource")
	}
	if from := spec.DataSourceRef; from != nil {
		v.dataSource(deref(from.APIGroup), from.Kind, deref(from.Namespace), from.Name, path+".dataSourceRef")
	}
}

func (v *visitor) dataSource(group, kind, namespace, name, path string) {
	resource, known := resourceOf(group, kind)
	if !known || namespace != "" {
		v.unknown = append(v.unknown, path)
		return
	}
	v.add(resource, name, path)
}

// resourceOf guesses the resource of a kind as Kubernetes itself names them. A wrong guess
// finds nothing, which refuses.
func resourceOf(group, kind string) (resource schema.GroupResource, known bool) {
	if kind == "" {
		return schema.GroupResource{}, false
	}
	return schema.GroupResource{Group: group, Resource: plural(kind)}, true
}
