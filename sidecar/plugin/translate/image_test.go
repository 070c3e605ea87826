// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

func TestImages(t *testing.T) {
	t.Parallel()
	policy := &translate.Policy{Images: []translate.ImageRule{
		{Match: "docker.io/library/python", Replace: "registry.site:5000/python"},
		{Match: "docker.io/*", Replace: "registry.site:5000/hub/*"},
		{Match: "ghcr.io/dask/*", Replace: "registry.site:5000/dask"},
	}}
	require.NoError(t, policy.Validate("policy"))
	const digest = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	for from, want := range map[string]string{
		"python":                         "registry.site:5000/python",
		"python:3.13":                    "registry.site:5000/python:3.13",
		"docker.io/library/python:3":     "registry.site:5000/python:3",
		"python-slim:3":                  "registry.site:5000/hub/library/python-slim:3",
		"index.docker.io/busybox":        "registry.site:5000/hub/library/busybox",
		"jupyter/base:1" + digest:        "registry.site:5000/hub/jupyter/base:1" + digest,
		"ghcr.io/dask/dask" + digest:     "registry.site:5000/dask/dask" + digest,
		"ghcr.io/dasker/dask:1":          "ghcr.io/dasker/dask:1",
		"ghcr.io:443/dask/dask:1":        "ghcr.io:443/dask/dask:1",
		"localhost/dask:1":               "localhost/dask:1",
		"registry.site:5000/python:3.13": "registry.site:5000/python:3.13",
	} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			result := translated(t, request(func(pod *corev1.Pod) {
				pod.Spec.Containers[0].Image = from
				pod.Spec.InitContainers = []corev1.Container{{Name: "first", Image: from}}
			}), policy)
			assert.Equal(t, want, result.Pod.Spec.Containers[0].Image)
			assert.Equal(t, want, result.Pod.Spec.InitContainers[0].Image)
			mapped := reported(result.Report, translate.ActionMapped)
			for _, field := range []string{"spec.containers[main].image", "spec.initContainers[first].image"} {
				assert.Equal(t, from != want, slices.Contains(mapped, field), mapped)
			}
			applied, ok := translate.AppliedTo(result.Pod)
			require.True(t, ok)
			assert.Equal(t, from, applied.Images["main"], "an update compares what the origin asks for")
		})
	}
}

func TestImagesOfVolumesAndEphemeralContainers(t *testing.T) {
	t.Parallel()
	policy := &translate.Policy{Images: []translate.ImageRule{{Match: "docker.io", Replace: "mirror.site"}}}
	volume := func(reference string) translate.Request {
		return request(func(pod *corev1.Pod) {
			pod.Spec.Volumes = []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{
				Image: &corev1.ImageVolumeSource{Reference: reference, PullPolicy: corev1.PullAlways},
			}}}
		})
	}
	result := translated(t, volume("physics/tables:2"), policy)
	assert.Equal(t, &corev1.ImageVolumeSource{Reference: "mirror.site/physics/tables:2", PullPolicy: corev1.PullAlways}, result.Pod.Spec.Volumes[0].Image)
	assert.Contains(t, reported(result.Report, translate.ActionMapped), "spec.volumes[data].image")
	_, err := translate.Pod(volume("quay.io/tables:2"), policy)
	require.ErrorContains(t, err, "spec.volumes[data].image")

	r := request(func(pod *corev1.Pod) {
		pod.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "busybox"}}}
	})
	containers, err := translate.Ephemeral(r, policy)
	require.NoError(t, err)
	assert.Equal(t, "mirror.site/library/busybox", containers[0].Image)
}

func TestImageOfEverything(t *testing.T) {
	t.Parallel()
	policy := &translate.Policy{Images: []translate.ImageRule{{Match: "*", Replace: "mirror.site/all"}}}
	require.NoError(t, policy.Validate("policy"))
	result := translated(t, request(nil), policy)
	assert.Equal(t, "mirror.site/all/example.org/main:1", result.Pod.Spec.Containers[0].Image)
}

func TestImageRuleValidation(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]translate.ImageRule{
		"empty":            {},
		"scheme":           {Match: "docker.io", Replace: "https://mirror.site"},
		"tag":              {Match: "docker.io/library/python:3", Replace: "mirror.site"},
		"glob":             {Match: "docker.io/lib*", Replace: "mirror.site"},
		"short name":       {Match: "library/python", Replace: "mirror.site"},
		"any to any":       {Match: "*", Replace: "*"},
		"trailing slash":   {Match: "docker.io/", Replace: "mirror.site/"},
		"path in capitals": {Match: "docker.io", Replace: "mirror.site/Hub"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			policy := &translate.Policy{Images: []translate.ImageRule{rule}}
			assert.ErrorContains(t, policy.Validate("policy"), "policy.images[0].")
		})
	}
}
