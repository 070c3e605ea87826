// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"
	cachetest "k8s.io/client-go/tools/cache/testing"

	"github.com/cloudveneto/caas/provider"
)

// informerOf is a PodInformer of one informer.
type informerOf struct {
	coreinformers.PodInformer

	informer cache.SharedIndexInformer
}

func (i informerOf) Informer() cache.SharedIndexInformer { return i.informer }

// TestMissedDeletion: the library lets go of a pod only if it is told of its deletion with a pod, also when the watch that would
// have told was broken.
func TestMissedDeletion(t *testing.T) {
	t.Parallel()
	source := cachetest.NewFakeControllerSource()
	pods := provider.WholePods{PodInformer: informerOf{informer: cache.NewSharedIndexInformer(source, &corev1.Pod{}, 0, nil)}}
	deleted := make(chan any, 2)
	_, err := pods.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{DeleteFunc: func(object any) { deleted <- object }})
	require.NoError(t, err)
	missed := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "missed", UID: "uid-missed"}}
	seen := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "seen", UID: "uid-seen"}}
	source.Add(missed)
	source.Add(seen)
	go pods.Informer().RunWithContext(t.Context())
	require.True(t, cache.WaitForCacheSync(t.Context().Done(), pods.Informer().HasSynced))

	source.Delete(seen)
	source.DeleteDropWatch(missed)
	source.ResetWatch()
	require.Eventually(t, func() bool { return len(deleted) == cap(deleted) }, time.Minute, 10*time.Millisecond)
	for _, want := range []*corev1.Pod{seen, missed} {
		pod, ok := (<-deleted).(*corev1.Pod)
		require.True(t, ok, "%s", want.Name)
		assert.Equal(t, want.UID, pod.UID)
	}
}
