// SPDX-License-Identifier: Apache-2.0

package authz

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	lookupTimeout   = decisionTimeout
	lookupsInFlight = 64
	lookupRate      = 50
	// lookupBurst lets somebody apply a directory of manifests at once.
	lookupBurst = 200
	// maxUsers bounds for how many users rates are kept.
	maxUsers = 10_000
)

// LookupConfig are the parts of a Lookup. Metadata and Version are required.
type LookupConfig struct {
	Metadata metadata.Interface
	// Version tells the version under which the cluster serves a resource.
	Version func(Resource) (schema.GroupVersionResource, bool)
	// Rate and Burst limit each user; default 50 per second and 200.
	Rate  float64
	Burst int
	// Timeout bounds one question; default 9 s.
	Timeout time.Duration
}

// Lookup asks the API server for single objects' metadata. It is for what the index does not know, which is rare and slower
// by an order of magnitude, so each user may cause only so many of them.
type Lookup struct {
	cfg    LookupConfig
	flight singleflight.Group
	slots  chan struct{}

	mu     sync.Mutex
	users  map[string]*rate.Limiter
	others *rate.Limiter // of those for whom there is no room in users
}

// NewLookup makes a Lookup.
func NewLookup(cfg LookupConfig) (*Lookup, error) {
	if cfg.Metadata == nil || cfg.Version == nil {
		return nil, errors.New("authz lookup: metadata client and versions are required")
	}
	if cfg.Rate == 0 {
		cfg.Rate = lookupRate
	}
	if cfg.Burst == 0 {
		cfg.Burst = lookupBurst
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = lookupTimeout
	}
	l := &Lookup{cfg: cfg, slots: make(chan struct{}, lookupsInFlight), users: map[string]*rate.Limiter{}}
	l.others = l.limiter()
	return l, nil
}

func (l *Lookup) limiter() *rate.Limiter { return rate.NewLimiter(rate.Limit(l.cfg.Rate), l.cfg.Burst) }

// Object asks for an object on behalf of a user. The answer is never Unknown.
func (l *Lookup) Object(ctx context.Context, user string, key Key) (Object, Knowledge) {
	if !l.of(user).Allow() {
		return Object{}, Limited
	}
	// The question outlives the one who asked first: others may wait for its answer.
	detached := context.WithoutCancel(ctx)
	result := l.flight.DoChan(key.String(), func() (any, error) {
		ctx, cancel := context.WithTimeout(detached, l.cfg.Timeout)
		defer cancel()
		object, knowledge := l.ask(ctx, key)
		return answer{object, knowledge}, nil
	})
	select {
	case <-ctx.Done():
		return Object{}, Unavailable
	case r := <-result:
		got, ok := r.Val.(answer)
		if !ok {
			return Object{}, Unavailable
		}
		return got.object, got.knowledge
	}
}

func (k Key) String() string {
	return k.Group + "/" + k.Resource.Resource + "/" + k.Namespace + "/" + k.Name // none of them has a slash
}

func (l *Lookup) ask(ctx context.Context, key Key) (Object, Knowledge) {
	version, served := l.cfg.Version(key.Resource)
	if !served {
		return Object{}, Unavailable
	}
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return Object{}, Unavailable
	}
	// No resource version: the answer is as new as the store, not as the API server's cache of it.
	object, err := l.cfg.Metadata.Resource(version).Namespace(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return Object{}, Absent
	case err != nil:
		logging.From(ctx).WarnContext(ctx, "object cannot be looked up", "resource", key.Resource.String(), "error", err)
		return Object{}, Unavailable
	}
	return Object{UID: string(object.UID), Owner: tenant.OwnerOf(object.Labels), Labels: object.Labels}, Known
}

// of is the limiter of a user.
func (l *Lookup) of(user string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter, ok := l.users[user]
	if ok {
		return limiter
	}
	if len(l.users) >= maxUsers {
		l.forget()
	}
	if len(l.users) >= maxUsers {
		return l.others
	}
	limiter = l.limiter()
	l.users[user] = limiter
	return limiter
}

// forget drops the limiters of users who have asked nothing for long enough to have their whole burst again.
func (l *Lookup) forget() {
	for user, limiter := range l.users {
		if limiter.Tokens() >= float64(l.cfg.Burst) {
			delete(l.users, user)
		}
	}
}
