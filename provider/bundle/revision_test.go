// SPDX-License-Identifier: Apache-2.0

package bundle_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/provider/bundle"
)

// everywhere is a pod that refers to objects in every way there is.
func everywhere() *corev1.Pod {
	return newPod(func(spec *corev1.PodSpec) {
		spec.Volumes = []corev1.Volume{
			{Name: "c", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: reference("config")}}},
			{Name: "t", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
				{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: reference("kube-root-ca.crt")}},
			}}}},
		}
		spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: reference("secret")}}}
		spec.Containers = append(spec.Containers, corev1.Container{Name: "local", Env: []corev1.EnvVar{{
			Name: "X", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: reference("not-sent"), Key: "k"}},
		}}})
		spec.ImagePullSecrets = []corev1.LocalObjectReference{reference("registry"), reference("absent")}
	})
}

func TestReferences(t *testing.T) {
	t.Parallel()
	pod := everywhere()
	pod.Annotations[interlink.AnnotationLocalContainers] = "local"
	ref := func(kind, name string) bundle.Reference {
		return bundle.Reference{Kind: kind, Namespace: "user", Name: name}
	}
	assert.Equal(t, []bundle.Reference{
		ref("ConfigMap", "config"), ref("ConfigMap", "kube-root-ca.crt"),
		ref("Secret", "absent"), ref("Secret", "registry"), ref("Secret", "secret"),
	}, bundle.References(pod))
}

func TestRevisionsTellWhatChanged(t *testing.T) {
	t.Parallel()
	version := func(changed string) func(bundle.Reference) string {
		return func(reference bundle.Reference) string {
			if reference.Name == changed {
				return "2"
			}
			return "1"
		}
	}
	before := bundle.RevisionOf(everywhere(), version(""))
	type parts struct{ pod, objects, tokens bool }
	for name, test := range map[string]struct {
		edit    func(*corev1.Pod)
		changed string
		want    parts
	}{
		"nothing":                {want: parts{}},
		"status":                 {edit: func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }},
		"what we write":          {edit: func(p *corev1.Pod) { p.Annotations[interlink.AnnotationJobID] = "j" }},
		"a label":                {edit: func(p *corev1.Pod) { p.Labels["a"] = "other" }, want: parts{pod: true}},
		"an annotation":          {edit: func(p *corev1.Pod) { p.Annotations["note"] = "other" }, want: parts{pod: true}},
		"an image":               {edit: func(p *corev1.Pod) { p.Spec.Containers[0].Image = "other" }, want: parts{pod: true}},
		"a deadline":             {edit: func(p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(int64(5)) }, want: parts{pod: true}},
		"a toleration":           {edit: func(p *corev1.Pod) { p.Spec.Tolerations = []corev1.Toleration{{Key: "k"}} }, want: parts{pod: true}},
		"an object":              {changed: "config", want: parts{objects: true}},
		"a pull secret":          {changed: "registry", want: parts{objects: true}},
		"an object of a token's": {changed: "kube-root-ca.crt", want: parts{tokens: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := everywhere()
			if test.edit != nil {
				test.edit(pod)
			}
			after := bundle.RevisionOf(pod, version(test.changed))
			assert.Equal(t, test.want, parts{after.Pod != before.Pod, after.Objects != before.Objects, after.Tokens != before.Tokens})
			assert.Equal(t, after, bundle.ParseRevision(after.String()))
			assert.Equal(t, after.Pod, bundle.PodRevision(pod))
		})
	}
	assert.Equal(t, bundle.Revision{}, bundle.ParseRevision("something else"))
}

func TestMarks(t *testing.T) {
	t.Parallel()
	c, client := collector(t, nil)
	respondWithToken(client, time.Hour)
	pod := everywhere()
	options := bundle.Options{References: true}
	_, err := c.Collect(t.Context(), pod, options)
	require.Error(t, err, "a key of an object that is missing is waited for")
	pod.Annotations[interlink.AnnotationLocalContainers] = "local"
	request, err := c.Collect(t.Context(), pod, options)
	require.NoError(t, err)
	assert.NotContains(t, request.Pod.Annotations, interlink.AnnotationRevision, "not for far ends that keep no marks")

	options.Marks = true
	created, err := c.Collect(t.Context(), pod, options)
	require.NoError(t, err)
	marks := bundle.MarksOf(&created.Pod)
	known := func(reference bundle.Reference) string {
		if reference.Name == "absent" {
			return bundle.VersionAbsent
		}
		return "" // the object tracker gives no versions
	}
	assert.Equal(t, bundle.RevisionOf(pod, known), marks.Revision)
	assert.WithinRange(t, marks.RefreshAt, time.Now().Add(41*time.Minute), time.Now().Add(48*time.Minute))

	options.Update = &bundle.Update{Held: marks}
	update, err := c.Collect(t.Context(), pod, options)
	require.NoError(t, err)
	assert.Empty(t, update.ProjectedVolumes, "no token was asked for")
	assert.Equal(t, marks, bundle.MarksOf(&update.Pod))
	options.Update.Tokens = true
	update, err = c.Collect(t.Context(), pod, options)
	require.NoError(t, err)
	assert.Len(t, update.ProjectedVolumes, 1)

	// What is missing at the origin is left out of an update.
	require.NoError(t, client.CoreV1().Secrets("user").Delete(t.Context(), "secret", metav1.DeleteOptions{}))
	options.Newest = func(bundle.Reference) string { return "7" }
	update, err = c.Collect(t.Context(), pod, options)
	require.NoError(t, err)
	assert.Len(t, update.Secrets, 1)
	_, err = c.Collect(t.Context(), pod, bundle.Options{References: true, Newest: options.Newest})
	var missing *bundle.MissingError
	assert.ErrorAs(t, err, &missing, "but not of a create")
}

func TestTokensAreUsedForADayAtMost(t *testing.T) {
	t.Parallel()
	c, client := collector(t, nil)
	respondWithToken(client, 365*24*time.Hour)
	pod := everywhere()
	pod.Spec.Containers = pod.Spec.Containers[:1]
	request, err := c.Collect(t.Context(), pod, bundle.Options{References: true, Marks: true})
	require.NoError(t, err)
	assert.WithinRange(t, bundle.MarksOf(&request.Pod).RefreshAt, time.Now().Add(20*time.Hour), time.Now().Add(24*time.Hour))
}

// respondWithToken lets the origin issue tokens with a life.
func respondWithToken(client *fake.Clientset, life time.Duration) {
	client.PrependReactor("create", "serviceaccounts", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, &authenticationv1.TokenRequest{
			Spec:   authenticationv1.TokenRequestSpec{ExpirationSeconds: new(int64(life / time.Second))},
			Status: authenticationv1.TokenRequestStatus{Token: "t", ExpirationTimestamp: metav1.NewTime(time.Now().Add(life))},
		}, nil
	})
}
