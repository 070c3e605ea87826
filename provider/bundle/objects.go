// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	// keepFor is how long an object that was read is good enough for other pods.
	// A kubelet's own caches are older.
	keepFor = 3 * time.Second
	// readTimeout bounds one read, which several pods may be waiting for.
	readTimeout = 30 * time.Second
)

// cache reads objects of one kind, each once for all who ask at the same time.
type cache[T any] struct {
	kind string
	read func(ctx context.Context, namespace, name string) (*T, error)
	// version is an object's resource version.
	version func(*T) string
	flight  singleflight.Group

	mu   sync.Mutex
	kept map[string]keptObject[T]
}

type keptObject[T any] struct {
	object *T
	until  time.Time
}

func newConfigMaps(client kubernetes.Interface) *cache[corev1.ConfigMap] {
	return &cache[corev1.ConfigMap]{
		kind:    KindConfigMap,
		version: func(object *corev1.ConfigMap) string { return object.ResourceVersion },
		kept:    map[string]keptObject[corev1.ConfigMap]{},
		read: func(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error) {
			object, err := client.CoreV1().ConfigMaps(namespace).Get(ctx, name, metav1.GetOptions{})
			if object != nil {
				object.ManagedFields = nil
			}
			return object, err
		},
	}
}

func newSecrets(client kubernetes.Interface) *cache[corev1.Secret] {
	return &cache[corev1.Secret]{
		kind:    KindSecret,
		version: func(object *corev1.Secret) string { return object.ResourceVersion },
		kept:    map[string]keptObject[corev1.Secret]{},
		read: func(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
			object, err := client.CoreV1().Secrets(namespace).Get(ctx, name, metav1.GetOptions{})
			if object != nil {
				object.ManagedFields = nil
			}
			return object, err
		},
	}
}

// get returns an object, which MUST NOT be changed. One that does not exist is a
// MissingError. newest is its version as far as anyone knows, or "".
func (c *cache[T]) get(ctx context.Context, namespace, name, newest string) (*T, error) {
	key := namespace + "/" + name
	if object := c.fresh(key, newest); object != nil {
		return object, nil
	}
	// The read outlives the caller who started it: others may be waiting for it. Those
	// who know of a newer version do not join a read that may have begun before it.
	shared := context.WithoutCancel(ctx)
	result := c.flight.DoChan(key+"@"+newest, func() (any, error) {
		if object := c.fresh(key, newest); object != nil {
			return object, nil // another read ended just before
		}
		bounded, cancel := context.WithTimeout(shared, readTimeout)
		defer cancel()
		object, err := c.read(bounded, namespace, name)
		if err != nil {
			return nil, err
		}
		c.keep(key, object)
		return object, nil
	})
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case answer := <-result:
		switch {
		case apierrors.IsNotFound(answer.Err):
			return nil, &MissingError{Kind: c.kind, Namespace: namespace, Name: name}
		case answer.Err != nil:
			return nil, fmt.Errorf("read %s %s: %w", c.kind, key, answer.Err)
		}
		object, _ := answer.Val.(*T)
		return object, nil
	}
}

// fresh returns what is kept of an object if it is good enough: of the newest version,
// or not old where that is not known.
func (c *cache[T]) fresh(key, newest string) *T {
	c.mu.Lock()
	defer c.mu.Unlock()
	kept, ok := c.kept[key]
	if !ok {
		return nil
	}
	now := time.Now()
	if newest == "" {
		if now.Before(kept.until) {
			return kept.object
		}
		return nil
	}
	if c.version(kept.object) != newest {
		return nil
	}
	kept.until = now.Add(keepFor)
	c.kept[key] = kept
	return kept.object
}

// keep remembers an object and forgets those whose time is over.
func (c *cache[T]) keep(key string, object *T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for other, kept := range c.kept {
		if now.After(kept.until) {
			delete(c.kept, other)
		}
	}
	c.kept[key] = keptObject[T]{object: object, until: now.Add(keepFor)}
}
