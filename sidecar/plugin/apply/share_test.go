// SPDX-License-Identifier: Apache-2.0

package apply_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"

	"github.com/cloudveneto/caas/sidecar/plugin/apply"
)

// sharing lets a client have so many pods.
func sharing(pods string, known *atomic.Bool) func(*apply.Config) {
	return func(c *apply.Config) {
		c.Share, c.Known = corev1.ResourceList{corev1.ResourcePods: resource.MustParse(pods)}, known.Load
	}
}

func TestShare(t *testing.T) {
	t.Parallel()
	var known atomic.Bool
	client := fake.NewClientset()
	applier, pods := newApplier(t, client, sharing("1", &known))
	_, err := applier.Create(t.Context(), key("a"), "cms", result("a"))
	require.ErrorContains(t, err, "not known yet")
	require.Empty(t, client.Actions(), "nothing was sent to the cluster")
	known.Store(true)

	_, err = applier.Create(t.Context(), key("a"), "cms", result("a"))
	require.NoError(t, err)
	_, err = applier.Create(t.Context(), key("a"), "cms", result("a"))
	require.NoError(t, err, "one that is there counts once")
	sent := len(client.Actions())
	_, err = applier.Create(t.Context(), key("b"), "cms", result("b"))
	require.ErrorIs(t, err, apply.ErrShare)
	assert.False(t, apply.IsFinal(err), "it waits")
	assert.ErrorContains(t, err, "pods: requested 1, used 1, share 1")
	assert.Len(t, client.Actions(), sent)

	pods.Remove(pods.Lookup(key("a")))
	_, err = applier.Create(t.Context(), key("b"), "cms", result("b"))
	require.NoError(t, err)
}

func TestMoreThanTheWholeShare(t *testing.T) {
	t.Parallel()
	var known atomic.Bool
	known.Store(true)
	applier, _ := newApplier(t, fake.NewClientset(), sharing("0", &known))
	_, err := applier.Create(t.Context(), key("a"), "cms", result("a"))
	assert.ErrorContains(t, err, "more than the whole share")
}

// TestShareAfterFailures: a create that surely failed takes nothing, one that perhaps did not does.
func TestShareAfterFailures(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		failure error
		taken   bool
	}{
		"quota":      {apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "p", errors.New("exceeded quota")), false},
		"invalid":    {apierrors.NewBadRequest("no"), false},
		"connection": {errors.New("connection lost"), true},
		"time":       {context.DeadlineExceeded, true},
		"server":     {apierrors.NewTimeoutError("etcd", 1), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var known, failing atomic.Bool
			known.Store(true)
			failing.Store(true)
			client := fake.NewClientset()
			client.PrependReactor("create", "pods", func(ktesting.Action) (bool, runtime.Object, error) {
				return failing.Load(), nil, test.failure
			})
			applier, _ := newApplier(t, client, sharing("1", &known))
			_, err := applier.Create(t.Context(), key("a"), "cms", result("a"))
			require.Error(t, err)
			failing.Store(false)
			_, err = applier.Create(t.Context(), key("b"), "cms", result("b"))
			if !test.taken {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, apply.ErrShare)
			_, err = applier.Create(t.Context(), key("a"), "cms", result("a"))
			require.NoError(t, err, "it may try again itself")
		})
	}
}

func TestConcurrentCreatesKeepToTheShare(t *testing.T) {
	t.Parallel()
	var known atomic.Bool
	known.Store(true)
	applier, pods := newApplier(t, fake.NewClientset(), sharing("5", &known))
	var created atomic.Int32
	var group sync.WaitGroup
	for i := range 40 {
		group.Go(func() {
			uid := fmt.Sprint(i)
			_, err := applier.Create(t.Context(), key(uid), "cms", result(uid))
			if err == nil {
				created.Add(1)
			} else {
				assert.ErrorIs(t, err, apply.ErrShare)
			}
		})
	}
	group.Wait()
	assert.EqualValues(t, 5, created.Load(), "as many as there is room for, neither more nor fewer")
	assert.Equal(t, 5, pods.Len())
}
