// SPDX-License-Identifier: Apache-2.0

package request_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cloudveneto/caas/sidecar/plugin/podstate"
	"github.com/cloudveneto/caas/sidecar/plugin/request"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

func TestCreateForms(t *testing.T) {
	t.Parallel()
	const object = `{"pod":{"metadata":{"name":"p"},"spec":{"containers":[{"name":"a","future":1}],"later":true}},"container":null}`
	for name, test := range map[string]struct {
		body  string
		fails bool
	}{
		"object": {object, false}, "list of one": {"[" + object + "]", false}, "list of two": {"[" + object + "," + object + "]", true},
		"empty list": {"[]", true}, "nothing": {"", true}, "null": {"null", true}, "list of null": {"[null]", true}, "cut": {object[:20], true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod, unknown, err := request.Create([]byte(test.body))
			if test.fails {
				assert.ErrorIs(t, err, request.ErrMalformed)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "p", pod.Pod.Name)
			assert.ElementsMatch(t, []string{"spec.containers[0].future", "spec.later"}, unknown)
		})
	}
}

func seed(f *testing.F, pattern string) {
	f.Helper()
	files, err := filepath.Glob("../../../internal/interlink/testdata/plugin/" + pattern)
	require.NoError(f, err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(f, err)
		_, body, _ := bytes.Cut(content, []byte("\n\n"))
		f.Add(body)
	}
	for _, text := range []string{"", "null", "[]", "{}", "[null]", "[{}]", `{"pod":null}`, `{"metadata":{"uid":"u"}}`, `{"PodUID":"u","Opts":{"Tail":-1}}`} {
		f.Add([]byte(text))
	}
}

// FuzzCreate decodes and translates anything: what is accepted has a valid identity.
func FuzzCreate(f *testing.F) {
	seed(f, "create-*.http")
	f.Fuzz(func(t *testing.T, body []byte) {
		wire, unknown, err := request.Create(body)
		if err != nil {
			return
		}
		wanted := translate.FromWire("", wire)
		wanted.Unknown = unknown
		result, err := translate.Pod(wanted, &translate.Policy{})
		var refusal *translate.RefusalError
		var missing *translate.MissingError
		if err != nil {
			assert.True(t, errors.As(err, &refusal) || errors.As(err, &missing), "%v", err)
			return
		}
		assert.Empty(t, validation.IsDNS1123Label(result.Pod.Name))
		for _, value := range []string{result.Pod.Labels[translate.LabelUID], result.Pod.Labels[translate.LabelOrigin]} {
			assert.Empty(t, validation.IsValidLabelValue(value))
		}
		assert.False(t, result.Pod.Spec.HostNetwork || result.Pod.Spec.HostPID || result.Pod.Spec.HostIPC)
		for _, volume := range result.Pod.Spec.Volumes {
			assert.Nil(t, volume.HostPath)
		}
	})
}

// FuzzStatus reports anything as absent, and as created with its own status.
func FuzzStatus(f *testing.F) {
	seed(f, "status-*.http")
	f.Fuzz(func(t *testing.T, body []byte) {
		pods, err := request.Pods(body)
		if err != nil {
			return
		}
		for i := range pods {
			complete(t, &pods[i], podstate.Absent(&pods[i]).Containers)
			complete(t, &pods[i], podstate.Conservative(&pods[i], &pods[i]).Containers)
		}
	})
}

// complete wants one entry per container: upstream's virtual kubelet stops otherwise.
func complete(t *testing.T, pod *corev1.Pod, statuses []corev1.ContainerStatus) {
	t.Helper()
	assert.Len(t, statuses, len(pod.Spec.Containers))
	for i := range statuses {
		state := statuses[i].State
		assert.True(t, state.Running != nil || state.Waiting != nil || state.Terminated != nil)
	}
}

func FuzzDelete(f *testing.F) {
	seed(f, "delete.http")
	f.Fuzz(func(t *testing.T, body []byte) {
		pod, err := request.Pod(body)
		assert.True(t, err != nil || request.UsableUID(string(pod.UID)))
	})
}

func FuzzLogs(f *testing.F) {
	seed(f, "logs*.http")
	f.Fuzz(func(t *testing.T, body []byte) {
		wanted, err := request.Logs(body)
		assert.True(t, err != nil || (request.UsableUID(wanted.PodUID) && wanted.Opts.Tail >= 0 && wanted.Opts.LimitBytes >= 0))
	})
}
