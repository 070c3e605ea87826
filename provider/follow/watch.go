// SPDX-License-Identifier: Apache-2.0

package follow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/provider/bundle"
)

const (
	firstPause = time.Second
	// lastPause is between two attempts when the API server does not answer;
	// forbiddenPause when it does not allow it, which for a node passes soon for a new
	// pod and otherwise never.
	lastPause      = 30 * time.Second
	forbiddenPause = 5 * time.Minute
	// readTimeout bounds one read.
	readTimeout = 30 * time.Second
)

// errExpired ends a watch that has to begin with a read again.
var errExpired = errors.New("the watch cannot go on from where it was")

// follow watches an object until ctx is done.
func (f *Follower) follow(ctx context.Context, s *subject) {
	wait := firstPause
	for {
		limit := lastPause
		err := f.attempt(ctx, s)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil, errors.Is(err, errExpired):
			wait = firstPause
		case apierrors.IsForbidden(err):
			limit = forbiddenPause
			if wait > lastPause {
				f.warned.Do(func() {
					logging.From(ctx).Warn("changes of objects are not seen: the right to watch them is missing", "error", err)
				})
			}
		default:
			logging.From(ctx).Debug("object not followed", "kind", s.reference.Kind, "namespace", s.reference.Namespace, "object", s.reference.Name, "error", err)
		}
		if !pause(ctx, wait/2+rand.N(wait)) { //nolint:gosec // jitter is no secret
			return
		}
		wait = min(2*wait, limit)
	}
}

// attempt reads an object's version and watches it until the watch cannot go on.
func (f *Follower) attempt(ctx context.Context, s *subject) error {
	client := f.cfg.Client.Resource(corev1.SchemeGroupVersion.WithResource(resource(s.reference.Kind))).Namespace(s.reference.Namespace)
	version, err := f.read(ctx, client, s)
	if err != nil {
		return err
	}
	for {
		ended := time.Now().Add(firstPause)
		if version, err = f.watch(ctx, client, s, version); err != nil {
			return err
		}
		// The API server ends every watch once in a while; one that ends at once is paused.
		if ctx.Err() != nil || time.Now().Before(ended) && !pause(ctx, firstPause) {
			return ctx.Err()
		}
	}
}

func resource(kind string) string {
	if kind == bundle.KindSecret {
		return "secrets"
	}
	return "configmaps"
}

// read returns where a watch has to begin; "" for an object that does not exist.
func (f *Follower) read(ctx context.Context, client metadata.ResourceInterface, s *subject) (string, error) {
	select {
	case f.reads <- struct{}{}:
		defer func() { <-f.reads }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	bounded, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	object, err := client.Get(bounded, s.reference.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		f.set(s, bundle.VersionAbsent)
		return "", nil
	case err != nil:
		return "", err
	}
	f.set(s, object.ResourceVersion)
	return object.ResourceVersion, nil
}

// watch takes in changes since version until the watch ends, and returns the version
// that it has come to.
func (f *Follower) watch(ctx context.Context, client metadata.ResourceInterface, s *subject, version string) (string, error) {
	stream, err := client.Watch(ctx, metav1.ListOptions{
		FieldSelector:   fields.OneTermEqualSelector(metav1.ObjectNameField, s.reference.Name).String(),
		ResourceVersion: version,
	})
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return version, errExpired
	}
	if err != nil {
		return version, err
	}
	defer stream.Stop()
	for {
		select {
		case <-ctx.Done():
			return version, ctx.Err()
		case event, open := <-stream.ResultChan():
			if !open {
				return version, nil
			}
			if version, err = f.take(s, event, version); err != nil {
				return version, err
			}
		}
	}
}

// take takes in one event and returns the version that the watch has come to.
func (f *Follower) take(s *subject, event watch.Event, version string) (string, error) {
	if event.Type == watch.Error {
		err := apierrors.FromObject(event.Object)
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			return version, errExpired
		}
		return version, fmt.Errorf("watch: %w", err)
	}
	object, ok := event.Object.(metav1.Object)
	if !ok || object.GetName() != s.reference.Name {
		return version, nil
	}
	if event.Type == watch.Deleted {
		f.set(s, bundle.VersionAbsent)
	} else {
		f.set(s, object.GetResourceVersion())
	}
	return object.GetResourceVersion(), nil
}
