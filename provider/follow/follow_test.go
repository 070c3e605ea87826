// SPDX-License-Identifier: Apache-2.0

package follow_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/cloudveneto/caas/provider/bundle"
	"github.com/cloudveneto/caas/provider/follow"
)

// origin is what a follower watches; the test ends and fails its watches.
type origin struct {
	client *fake.FakeMetadataClient

	mu      sync.Mutex
	open    []*watch.FakeWatcher
	refuse  error
	changes map[bundle.Reference][]types.UID
	told    int
}

func newOrigin(t *testing.T) *origin {
	t.Helper()
	scheme := fake.NewTestScheme()
	require.NoError(t, metav1.AddMetaToScheme(scheme))
	o := &origin{client: fake.NewSimpleMetadataClient(scheme), changes: map[bundle.Reference][]types.UID{}}
	o.client.PrependWatchReactor("*", func(clienttesting.Action) (bool, watch.Interface, error) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.refuse != nil {
			return true, nil, o.refuse
		}
		stream := watch.NewFakeWithChanSize(10, false)
		o.open = append(o.open, stream)
		return true, stream, nil
	})
	return o
}

func (o *origin) changed(reference bundle.Reference, pods []types.UID) {
	o.mu.Lock()
	defer o.mu.Unlock()
	slices.Sort(pods)
	o.changes[reference] = pods
	o.told++
}

func (o *origin) put(t *testing.T, name, version string) *metav1.PartialObjectMetadata {
	t.Helper()
	object := partial(name, version)
	resource := corev1.SchemeGroupVersion.WithResource("configmaps")
	if o.client.Tracker().Update(resource, object, "ns") != nil {
		require.NoError(t, o.client.Tracker().Create(resource, object, "ns"))
	}
	return object
}

func partial(name, version string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, ResourceVersion: version},
	}
}

func (o *origin) reads() int {
	count := 0
	for _, action := range o.client.Actions() {
		if action.GetVerb() == "get" {
			count++
		}
	}
	return count
}

func (o *origin) last() *watch.FakeWatcher {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.open[len(o.open)-1]
}

func (o *origin) watches() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.open)
}

// run starts a follower in a bubble of simulated time.
func run(t *testing.T, o *origin, limit int) *follow.Follower {
	t.Helper()
	f, err := follow.New(follow.Config{Client: o.client, Changed: o.changed, Limit: limit})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return f
}

func ref(name string) bundle.Reference {
	return bundle.Reference{Kind: bundle.KindConfigMap, Namespace: "ns", Name: name}
}

func version(t *testing.T, f *follow.Follower, name string) string {
	t.Helper()
	synctest.Wait()
	known, ok := f.Version(ref(name))
	assert.Equal(t, known != "", ok)
	return known
}

func TestOneWatchForAllPods(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t)
		o.put(t, "a", "1")
		f := run(t, o, 0)
		for i := range 100 {
			f.Refer(types.UID(fmt.Sprint(i)), []bundle.Reference{ref("a")})
		}
		assert.Equal(t, "1", version(t, f, "a"))
		assert.Equal(t, 1, o.watches())
		assert.Equal(t, 1, f.Watched())
		o.last().Modify(partial("other", "8"))
		o.last().Modify(partial("a", "2"))
		assert.Equal(t, "2", version(t, f, "a"))
		assert.Len(t, o.changes[ref("a")], 100)
		told := o.told
		o.last().Modify(partial("a", "2"))
		o.last().Delete(partial("a", "3"))
		assert.Equal(t, bundle.VersionAbsent, version(t, f, "a"))
		assert.Equal(t, told+1, o.told, "the same version is no change")
		o.last().Add(partial("a", "4"))
		assert.Equal(t, "4", version(t, f, "a"))
		for i := range 100 {
			f.Forget(types.UID(fmt.Sprint(i)))
		}
		assert.Empty(t, version(t, f, "a"))
		assert.Zero(t, f.Watched())
	})
}

func TestAnObjectThatIsNotThereYet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t)
		f := run(t, o, 0)
		f.Refer("p", []bundle.Reference{ref("late")})
		assert.Equal(t, bundle.VersionAbsent, version(t, f, "late"))
		o.last().Add(partial("late", "7"))
		assert.Equal(t, "7", version(t, f, "late"))
	})
}

func TestWatchesGoOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t)
		o.put(t, "a", "1")
		f := run(t, o, 0)
		f.Refer("p", []bundle.Reference{ref("a")})
		require.Equal(t, "1", version(t, f, "a"))
		time.Sleep(time.Hour)
		assert.Equal(t, 1, o.reads(), "nothing is asked while nothing changes")
		o.last().Stop() // as the API server does once in a while
		time.Sleep(3 * time.Second)
		assert.Equal(t, 1, o.reads(), "it goes on from where it was")
		assert.Equal(t, 2, o.watches())

		o.put(t, "a", "2") // while nobody watches
		expired := apierrors.NewResourceExpired("too old")
		o.last().Error(&expired.ErrStatus)
		time.Sleep(3 * time.Second)
		assert.Equal(t, "2", version(t, f, "a"))
		assert.Equal(t, 2, o.reads(), "it begins with a read")
	})
}

func TestTroubleIsRetried(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		err error
		// tries within an hour, at least and at most
		least, most int
	}{
		"down":      {errors.New("connection refused"), 100, 200},
		"forbidden": {apierrors.NewForbidden(corev1.Resource("configmaps"), "a", errors.New("no")), 10, 40},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := newOrigin(t)
				o.put(t, "a", "1")
				o.refuse = test.err
				f := run(t, o, 0)
				f.Refer("p", []bundle.Reference{ref("a")})
				time.Sleep(time.Hour)
				assert.GreaterOrEqual(t, o.reads(), test.least)
				assert.LessOrEqual(t, o.reads(), test.most)
				assert.Equal(t, "1", version(t, f, "a"), "what was read is known")
				o.mu.Lock()
				o.refuse = nil
				o.mu.Unlock()
				time.Sleep(10 * time.Minute)
				assert.Equal(t, 1, o.watches())
			})
		})
	}
}

func TestReadsThatFailLeaveTheVersionUnknown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t)
		o.client.PrependReactor("get", "*", func(clienttesting.Action) (bool, runtime.Object, error) {
			return true, nil, apierrors.NewServiceUnavailable("starting")
		})
		f := run(t, o, 0)
		f.Refer("p", []bundle.Reference{ref("a")})
		time.Sleep(time.Minute)
		assert.Empty(t, version(t, f, "a"))
		assert.Zero(t, o.told)
	})
}

func TestLimitSettleAndChangedReferences(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOrigin(t)
		for _, name := range []string{"a", "b", "c"} {
			o.put(t, name, "1")
		}
		f := run(t, o, 2)
		f.Refer("p", []bundle.Reference{ref("a"), ref("b"), ref("c")})
		assert.Equal(t, "1", version(t, f, "b"))
		assert.Empty(t, version(t, f, "c"), "there is no room")
		f.Settle(ref("a"), "1")
		assert.Equal(t, "1", version(t, f, "c"), "an immutable object needs none")
		assert.Equal(t, "1", version(t, f, "a"))
		assert.Equal(t, 2, f.Watched())
		f.Refer("p", []bundle.Reference{ref("c")})
		assert.Empty(t, version(t, f, "b"))
		assert.Equal(t, 1, f.Watched())
		f.Forget("stranger")
	})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	_, err := follow.New(follow.Config{})
	assert.Error(t, err)
}
