// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"maps"
	"net"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const rootCA = "kube-root-ca.crt"

func joinHostPort(host, port string) string { return net.JoinHostPort(host, port) }

// volumes collects the objects of all volumes; kinds without an object at the
// origin are the far end's business.
func (b *build) volumes(ctx context.Context) error {
	for i := range b.request.Pod.Spec.Volumes {
		volume := &b.request.Pod.Spec.Volumes[i]
		var err error
		switch {
		case volume.ConfigMap != nil:
			_, err = b.configMap(ctx, volume.ConfigMap.Name, volume.ConfigMap.Optional)
		case volume.Secret != nil:
			_, err = b.secret(ctx, volume.Secret.SecretName, volume.Secret.Optional)
		case volume.Projected != nil && !b.collector.cfg.NoProjected && b.wanted(volume):
			err = b.projected(ctx, volume)
		case volume.DownwardAPI != nil && !b.collector.cfg.NoProjected:
			content := files{}
			if err = b.downward(content, volume.DownwardAPI.Items); err == nil {
				b.addFiles(volume.Name, content)
			}
		}
		if b.tolerated(err) != nil {
			return err
		}
	}
	return nil
}

// wanted tells whether a projected volume belongs to the request.
func (b *build) wanted(volume *corev1.Volume) bool {
	return b.options.Update == nil || b.options.Update.Tokens || !hasToken(volume)
}

// files are a volume's contents by path.
type files map[string][]byte

// addFiles puts a volume's contents into the request as a pseudo-ConfigMap.
func (b *build) addFiles(volume string, content files) {
	object := corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: volume, Namespace: b.origin.Namespace},
		Data:       map[string]string{},
	}
	for path, data := range content {
		if utf8.Valid(data) {
			object.Data[path] = string(data)
			continue
		}
		if object.BinaryData == nil {
			object.BinaryData = map[string][]byte{}
		}
		object.BinaryData[path] = data
	}
	b.request.ProjectedVolumes = append(b.request.ProjectedVolumes, object)
}

// projected collects the contents of a projected volume; later sources win.
func (b *build) projected(ctx context.Context, volume *corev1.Volume) error {
	content := files{}
	for i := range volume.Projected.Sources {
		if err := b.source(ctx, volume.Name, content, &volume.Projected.Sources[i]); err != nil {
			return err
		}
	}
	b.addFiles(volume.Name, content)
	return nil
}

func (b *build) source(ctx context.Context, volume string, content files, source *corev1.VolumeProjection) error {
	switch {
	case source.ConfigMap != nil:
		return b.projectConfigMap(ctx, content, source.ConfigMap)
	case source.Secret != nil:
		return b.projectSecret(ctx, content, source.Secret)
	case source.DownwardAPI != nil:
		return b.downward(content, source.DownwardAPI.Items)
	case source.ServiceAccountToken != nil:
		return b.token(ctx, content, source.ServiceAccountToken)
	case source.ClusterTrustBundle != nil && isTrue(source.ClusterTrustBundle.Optional):
		return nil
	case source.ClusterTrustBundle != nil:
		return refused("volume %q projects a clusterTrustBundle, which cannot be offloaded; use a ConfigMap or mark it optional", volume)
	case source.PodCertificate != nil:
		return refused("volume %q projects a podCertificate, which cannot be offloaded", volume)
	}
	return refused("volume %q has a projected source of a kind that is not known here", volume)
}

func (b *build) projectConfigMap(ctx context.Context, content files, source *corev1.ConfigMapProjection) error {
	object, err := b.readConfigMap(ctx, source.Name, source.Optional)
	if err != nil || object == nil {
		return err
	}
	data := make(files, len(object.Data)+len(object.BinaryData))
	for key, text := range object.Data {
		data[key] = []byte(text)
	}
	maps.Copy(data, object.BinaryData)
	if ca := b.collector.cfg.APIServer.CA; source.Name == rootCA && ca != "" {
		data["ca.crt"] = []byte(ca)
	}
	missing := MissingError{Kind: "ConfigMap", Namespace: b.origin.Namespace, Name: source.Name}
	return content.add(data, source.Items, isTrue(source.Optional), missing)
}

func (b *build) projectSecret(ctx context.Context, content files, source *corev1.SecretProjection) error {
	object, err := b.readSecret(ctx, source.Name, source.Optional)
	if err != nil || object == nil {
		return err
	}
	missing := MissingError{Kind: "Secret", Namespace: b.origin.Namespace, Name: source.Name}
	return content.add(object.Data, source.Items, isTrue(source.Optional), missing)
}

// add takes over all of data, or the items of it.
func (f files) add(data files, items []corev1.KeyToPath, optional bool, missing MissingError) error {
	if len(items) == 0 {
		maps.Copy(f, data)
		return nil
	}
	for _, item := range items {
		bytes, ok := data[item.Key]
		switch {
		case ok:
			f[item.Path] = bytes
		case !optional:
			missing.Key = item.Key
			return &missing
		}
	}
	return nil
}
