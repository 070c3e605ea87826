// SPDX-License-Identifier: Apache-2.0

package bundle_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/bundle"
)

// objects are what the namespace has.
func objects() []runtime.Object {
	return []runtime.Object{
		&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "user", Name: "config"},
			Data:       map[string]string{"a": "1", "b": "pa$$ $(X) $y", "bad=key": "x"}, BinaryData: map[string][]byte{"bin": {0xff, 0}},
		},
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "user", Name: "kube-root-ca.crt"}, Data: map[string]string{"ca.crt": "inside"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "user", Name: "secret"}, Data: map[string][]byte{"key": []byte("hidden")}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "user", Name: "registry"}, Type: corev1.SecretTypeDockerConfigJson},
	}
}

func newPod(edit func(*corev1.PodSpec)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "user", Name: "pod", UID: "uid", Labels: map[string]string{"b": "2", "a": "1"},
			Annotations: map[string]string{"note": "two\nlines"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}},
		},
		Spec: corev1.PodSpec{
			NodeName: "node", ServiceAccountName: "account",
			Containers: []corev1.Container{{Name: "main", Resources: corev1.ResourceRequirements{
				Limits:   corev1.ResourceList{"memory": resource.MustParse("1Gi")},
				Requests: corev1.ResourceList{"cpu": resource.MustParse("1500m")},
			}}},
		},
	}
	edit(&pod.Spec)
	return pod
}

func collector(t *testing.T, edit func(*bundle.Config)) (*bundle.Collector, *fake.Clientset) {
	t.Helper()
	client := fake.NewClientset(objects()...)
	cfg := bundle.Config{
		Client: client, Recorder: record.NewFakeRecorder(10),
		Allocatable: func() corev1.ResourceList { return corev1.ResourceList{"cpu": resource.MustParse("64")} },
	}
	if edit != nil {
		edit(&cfg)
	}
	c, err := bundle.New(cfg)
	require.NoError(t, err)
	return c, client
}

func reference(name string) corev1.LocalObjectReference {
	return corev1.LocalObjectReference{Name: name}
}

func volume(source corev1.VolumeSource) func(*corev1.PodSpec) {
	return func(spec *corev1.PodSpec) { spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: source}} }
}

func projected(sources ...corev1.VolumeProjection) func(*corev1.PodSpec) {
	return volume(corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources}})
}

func TestMountedObjects(t *testing.T) {
	t.Parallel()
	c, _ := collector(t, nil)
	pod := newPod(func(spec *corev1.PodSpec) {
		spec.Volumes = []corev1.Volume{
			{Name: "c1", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: reference("config")}}},
			{Name: "c2", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: reference("config")}}},
			{Name: "c3", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: reference("none"), Optional: new(true)}}},
			{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "secret"}}},
			{Name: "e", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		}
	})
	request, err := c.Collect(t.Context(), pod, bundle.Options{})
	require.NoError(t, err)
	require.Len(t, request.ConfigMaps, 1, "each object once")
	assert.Equal(t, []byte{0xff, 0}, request.ConfigMaps[0].BinaryData["bin"])
	require.Len(t, request.Secrets, 1)
	assert.Equal(t, "hidden", string(request.Secrets[0].Data["key"]))
	assert.Empty(t, request.Pod.ManagedFields)
	assert.Len(t, pod.ManagedFields, 1, "the pod that was given stays as it is")
}

func TestProjectedContents(t *testing.T) {
	t.Parallel()
	field := func(path string) corev1.VolumeProjection {
		return corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "f", FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}},
		}}}
	}
	amount := func(name, divisor string) corev1.VolumeProjection {
		selector := &corev1.ResourceFieldSelector{ContainerName: "main", Resource: name}
		if divisor != "" {
			selector.Divisor = resource.MustParse(divisor)
		}
		return corev1.VolumeProjection{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "f", ResourceFieldRef: selector}}}}
	}
	cases := map[string]struct {
		sources []corev1.VolumeProjection
		data    map[string]string
		binary  map[string][]byte
	}{
		"whole ConfigMap": {
			[]corev1.VolumeProjection{{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: reference("config")}}},
			map[string]string{"a": "1", "b": "pa$$ $(X) $y", "bad=key": "x"},
			map[string][]byte{"bin": {0xff, 0}},
		},
		"items": {
			[]corev1.VolumeProjection{{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: reference("config"), Items: []corev1.KeyToPath{{Key: "a", Path: "dir/file"}},
			}}},
			map[string]string{"dir/file": "1"},
			nil,
		},
		"secret": {
			[]corev1.VolumeProjection{{Secret: &corev1.SecretProjection{LocalObjectReference: reference("secret")}}},
			map[string]string{"key": "hidden"},
			nil,
		},
		"optional and missing": {
			[]corev1.VolumeProjection{{Secret: &corev1.SecretProjection{LocalObjectReference: reference("none"), Optional: new(true)}}},
			map[string]string{},
			nil,
		},
		"optional trust bundle": {
			[]corev1.VolumeProjection{{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Optional: new(true)}}},
			map[string]string{},
			nil,
		},
		"own authority":           {[]corev1.VolumeProjection{{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: reference("kube-root-ca.crt")}}}, map[string]string{"ca.crt": "outside"}, nil},
		"name":                    {[]corev1.VolumeProjection{field("metadata.name")}, map[string]string{"f": "pod"}, nil},
		"namespace":               {[]corev1.VolumeProjection{field("metadata.namespace")}, map[string]string{"f": "user"}, nil},
		"uid":                     {[]corev1.VolumeProjection{field("metadata.uid")}, map[string]string{"f": "uid"}, nil},
		"labels":                  {[]corev1.VolumeProjection{field("metadata.labels")}, map[string]string{"f": "a=\"1\"\nb=\"2\""}, nil},
		"annotations":             {[]corev1.VolumeProjection{field("metadata.annotations")}, map[string]string{"f": "note=\"two\\nlines\""}, nil},
		"one label":               {[]corev1.VolumeProjection{field("metadata.labels['b']")}, map[string]string{"f": "2"}, nil},
		"one annotation":          {[]corev1.VolumeProjection{field("metadata.annotations['note']")}, map[string]string{"f": "two\nlines"}, nil},
		"memory limit":            {[]corev1.VolumeProjection{amount("limits.memory", "1Mi")}, map[string]string{"f": "1024"}, nil},
		"cpu request, rounded up": {[]corev1.VolumeProjection{amount("requests.cpu", "")}, map[string]string{"f": "2"}, nil},
		"cpu request, in milli":   {[]corev1.VolumeProjection{amount("requests.cpu", "1m")}, map[string]string{"f": "1500"}, nil},
		"no limit: what the node has": {
			[]corev1.VolumeProjection{amount("limits.cpu", "")}, map[string]string{"f": "64"}, nil,
		},
		"later sources win": {[]corev1.VolumeProjection{field("metadata.name"), field("metadata.uid")}, map[string]string{"f": "uid"}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			collect, _ := collector(t, func(cfg *bundle.Config) { cfg.APIServer.CA = "outside" })
			request, err := collect.Collect(t.Context(), newPod(projected(c.sources...)), bundle.Options{})
			require.NoError(t, err)
			require.Len(t, request.ProjectedVolumes, 1)
			assert.Equal(t, "v", request.ProjectedVolumes[0].Name)
			assert.Equal(t, c.data, request.ProjectedVolumes[0].Data)
			assert.Equal(t, c.binary, request.ProjectedVolumes[0].BinaryData)
		})
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	c, client := collector(t, nil)
	var asked *authenticationv1.TokenRequest
	client.PrependReactor("create", "serviceaccounts", func(action clienttesting.Action) (bool, runtime.Object, error) {
		create, ok := action.(clienttesting.CreateActionImpl)
		if !ok || create.GetSubresource() != "token" {
			return false, nil, nil
		}
		assert.Equal(t, "account", create.Name)
		asked, _ = create.GetObject().(*authenticationv1.TokenRequest)
		return true, &authenticationv1.TokenRequest{Status: authenticationv1.TokenRequestStatus{Token: "token"}}, nil
	})
	request, err := c.Collect(t.Context(), newPod(projected(corev1.VolumeProjection{
		ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "vault", ExpirationSeconds: new(int64(3607)), Path: "t"},
	})), bundle.Options{})
	require.NoError(t, err)
	assert.Equal(t, "token", request.ProjectedVolumes[0].Data["t"])
	assert.Equal(t, []string{"vault"}, asked.Spec.Audiences)
	assert.Equal(t, int64(3607), *asked.Spec.ExpirationSeconds)
	assert.Equal(t, &authenticationv1.BoundObjectReference{Kind: "Pod", APIVersion: "v1", Name: "pod", UID: "uid"}, asked.Spec.BoundObjectRef)
}

func TestProblems(t *testing.T) {
	t.Parallel()
	env := func(variable corev1.EnvVar) func(*corev1.PodSpec) {
		return func(spec *corev1.PodSpec) { spec.Containers[0].Env = []corev1.EnvVar{variable} }
	}
	cases := map[string]struct {
		edit    func(*corev1.PodSpec)
		refused bool
		says    string
	}{
		"ConfigMap": {volume(corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: reference("none")}}), false, "ConfigMap user/none"},
		"Secret":    {volume(corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "none"}}), false, "Secret user/none"},
		"key": {projected(corev1.VolumeProjection{Secret: &corev1.SecretProjection{
			LocalObjectReference: reference("secret"), Items: []corev1.KeyToPath{{Key: "other", Path: "p"}},
		}}), false, `Secret user/secret has no key "other"`},
		"env key": {env(corev1.EnvVar{Name: "E", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: reference("config"), Key: "other",
		}}}), false, `ConfigMap user/config has no key "other"`},
		"envFrom": {func(spec *corev1.PodSpec) {
			spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: reference("none")}}}
		}, false, "Secret user/none"},
		"trust bundle": {projected(corev1.VolumeProjection{ClusterTrustBundle: &corev1.ClusterTrustBundleProjection{Path: "p"}}), true, `volume "v" projects a clusterTrustBundle`},
		"certificate":  {projected(corev1.VolumeProjection{PodCertificate: &corev1.PodCertificateProjection{}}), true, "podCertificate"},
	}
	for name, c := range cases {
		for _, references := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				collect, _ := collector(t, nil)
				_, err := collect.Collect(t.Context(), newPod(c.edit), bundle.Options{References: references})
				require.ErrorContains(t, err, c.says)
				var refused *bundle.RefusedError
				var missing *bundle.MissingError
				if c.refused {
					require.ErrorAs(t, err, &refused)
				} else {
					require.ErrorAs(t, err, &missing)
				}
			})
		}
	}
}

// environment has one of everything.
func environment(spec *corev1.PodSpec) {
	from := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "registry"}, {Name: "none"}}
	spec.Containers[0].EnvFrom = []corev1.EnvFromSource{
		{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: reference("config")}},
		{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: reference("none"), Optional: new(true)}},
	}
	spec.Containers[0].Env = []corev1.EnvVar{
		{Name: "PLAIN", Value: "$(P_a)"},
		{Name: "P_b", Value: "mine"},
		{Name: "NAME", ValueFrom: from("metadata.name")},
		{Name: "NODE", ValueFrom: from("spec.nodeName")},
		{Name: "IP", ValueFrom: from("status.podIP")},
		{Name: "KEY", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: reference("secret"), Key: "key"}}},
		{Name: "NONE", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: reference("secret"), Key: "none", Optional: new(true),
		}}},
		{Name: "RAW", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: reference("config"), Key: "b"}}},
		{Name: "CPU", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "requests.cpu"}}},
	}
}

func TestEnvironmentBecomesLiteral(t *testing.T) {
	t.Parallel()
	events := record.NewFakeRecorder(10)
	c, _ := collector(t, func(cfg *bundle.Config) { cfg.Recorder = events })
	request, err := c.Collect(t.Context(), newPod(environment), bundle.Options{})
	require.NoError(t, err)
	container := request.Pod.Spec.Containers[0]
	assert.Empty(t, container.EnvFrom)
	assert.Equal(t, []corev1.EnvVar{
		{Name: "P_a", Value: "1"},
		{Name: "PLAIN", Value: "$(P_a)"},
		{Name: "P_b", Value: "mine"},
		{Name: "NAME", Value: "pod"},
		{Name: "NODE", Value: "node"},
		{Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}},
		{Name: "KEY", Value: "hidden"},
		{Name: "RAW", Value: "pa$$$ $$(X) $y"},
		{Name: "CPU", Value: "2"},
	}, container.Env)
	assert.Contains(t, <-events.Events, "P_bad=key")
	assert.Empty(t, request.Secrets, "what is mounted nowhere is not sent to a far end that has no use for it")
	assert.Empty(t, request.ConfigMaps)
}

func TestEnvironmentStaysAReference(t *testing.T) {
	t.Parallel()
	c, _ := collector(t, nil)
	pod := newPod(environment)
	request, err := c.Collect(t.Context(), pod, bundle.Options{References: true})
	require.NoError(t, err)
	assert.Equal(t, pod.Spec.Containers[0].Env, request.Pod.Spec.Containers[0].Env)
	assert.Equal(t, pod.Spec.Containers[0].EnvFrom, request.Pod.Spec.Containers[0].EnvFrom)
	require.Len(t, request.ConfigMaps, 1)
	require.Len(t, request.Secrets, 2)
	assert.Equal(t, "secret", request.Secrets[0].Name)
	assert.Equal(t, "registry", request.Secrets[1].Name)
}

func TestAPIServerVariables(t *testing.T) {
	t.Parallel()
	c, _ := collector(t, func(cfg *bundle.Config) { cfg.APIServer = bundle.APIServer{Address: "192.0.2.1", Port: "6443"} })
	request, err := c.Collect(t.Context(), newPod(func(spec *corev1.PodSpec) {
		spec.Containers[0].Env = []corev1.EnvVar{{Name: "KUBERNETES_SERVICE_HOST", Value: "mine"}}
	}), bundle.Options{})
	require.NoError(t, err)
	values := map[string]string{}
	for _, variable := range request.Pod.Spec.Containers[0].Env {
		values[variable.Name] = variable.Value
	}
	assert.Equal(t, map[string]string{
		"KUBERNETES_SERVICE_HOST": "mine", "KUBERNETES_SERVICE_PORT": "6443", "KUBERNETES_SERVICE_PORT_HTTPS": "6443",
		"KUBERNETES_PORT": "tcp://192.0.2.1:6443", "KUBERNETES_PORT_6443_TCP": "tcp://192.0.2.1:6443",
		"KUBERNETES_PORT_6443_TCP_PROTO": "tcp", "KUBERNETES_PORT_6443_TCP_ADDR": "192.0.2.1", "KUBERNETES_PORT_6443_TCP_PORT": "6443",
	}, values)
}

func TestLocalContainersAreLeftOut(t *testing.T) {
	t.Parallel()
	c, _ := collector(t, nil)
	pod := newPod(func(spec *corev1.PodSpec) {
		spec.Containers = append(spec.Containers, corev1.Container{Name: "local"})
		spec.InitContainers = []corev1.Container{{Name: "init"}}
	})
	pod.Annotations[interlink.AnnotationLocalContainers] = "other, local"
	pod.Annotations[interlink.AnnotationLocalInitContainers] = "init"
	request, err := c.Collect(t.Context(), pod, bundle.Options{})
	require.NoError(t, err)
	require.Len(t, request.Pod.Spec.Containers, 1)
	assert.Empty(t, request.Pod.Spec.InitContainers)
	assert.Len(t, pod.Spec.Containers, 2)
}

func TestSharedObjectsAreReadOnce(t *testing.T) {
	t.Parallel()
	c, client := collector(t, nil)
	var group sync.WaitGroup
	for range 100 {
		group.Go(func() {
			_, err := c.Collect(t.Context(), newPod(volume(corev1.VolumeSource{
				ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: reference("config")},
			})), bundle.Options{})
			assert.NoError(t, err)
		})
	}
	group.Wait()
	assert.LessOrEqual(t, len(client.Actions()), 3)
}

func TestTokenThatIsNotFound(t *testing.T) {
	t.Parallel()
	for kind, missing := range map[string]bool{"serviceaccounts": true, "pods": false} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c, client := collector(t, nil)
			client.PrependReactor("create", "serviceaccounts", func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, apierrors.NewNotFound(schema.GroupResource{Resource: kind}, "x")
			})
			_, err := c.Collect(t.Context(), newPod(projected(corev1.VolumeProjection{
				ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "t"},
			})), bundle.Options{})
			var absent *bundle.MissingError
			assert.Equal(t, missing, errors.As(err, &absent), "a pod that the API server has not seen yet is no missing account")
		})
	}
}
