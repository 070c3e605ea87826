// SPDX-License-Identifier: Apache-2.0

package follow

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/metadata"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/provider/bundle"
)

// Config is what a Follower needs.
type Config struct {
	Client metadata.Interface
	// Changed is called when the version of an object that these pods refer to has
	// changed or is known for the first time. It MUST NOT block.
	Changed func(reference bundle.Reference, pods []types.UID)
	// Limit bounds the objects that are watched at one time; default 20,000. Those beyond
	// it wait for room, their versions unknown.
	Limit int
	// Reads bounds the reads under way at one time; default 16.
	Reads int
}

// Follower follows objects. It may be used by many goroutines at once.
type Follower struct {
	cfg   Config
	reads chan struct{}
	// fresh has room for one signal: there are objects that nobody watches yet.
	fresh chan struct{}
	// warned and crowded make a missing right and a reached limit be logged once.
	warned, crowded sync.Once

	mu       sync.Mutex
	subjects map[bundle.Reference]*subject
	pods     map[types.UID][]bundle.Reference
	waiting  []*subject
	watched  int
}

// subject is one object that pods refer to. Follower.mu guards it.
type subject struct {
	reference bundle.Reference
	users     map[types.UID]struct{}
	// version is "" while it is not known.
	version string
	// settled objects cannot change any more.
	settled bool
	// stop ends the watch, if one has begun.
	stop context.CancelFunc
}

// New returns a Follower; Run makes it work.
func New(cfg Config) (*Follower, error) {
	if cfg.Client == nil || cfg.Changed == nil {
		return nil, errors.New("follow: Client and Changed are required")
	}
	if cfg.Limit == 0 {
		cfg.Limit = 20_000
	}
	if cfg.Reads == 0 {
		cfg.Reads = 16
	}
	return &Follower{
		cfg: cfg, reads: make(chan struct{}, cfg.Reads), fresh: make(chan struct{}, 1),
		subjects: map[bundle.Reference]*subject{}, pods: map[types.UID][]bundle.Reference{},
	}, nil
}

// Refer says which objects a pod refers to from now on.
func (f *Follower) Refer(pod types.UID, references []bundle.Reference) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before, known := f.pods[pod]
	if known && slices.Equal(before, references) {
		return
	}
	f.pods[pod] = references
	for _, reference := range references {
		s := f.subjects[reference]
		if s == nil {
			s = &subject{reference: reference, users: map[types.UID]struct{}{}}
			f.subjects[reference] = s
			f.waiting = append(f.waiting, s)
		}
		s.users[pod] = struct{}{}
	}
	for _, reference := range before {
		if !slices.Contains(references, reference) {
			f.drop(pod, reference)
		}
	}
	f.signal()
}

// Forget says that a pod refers to nothing any more.
func (f *Follower) Forget(pod types.UID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, reference := range f.pods[pod] {
		f.drop(pod, reference)
	}
	delete(f.pods, pod)
}

// drop ends one pod's interest. The caller locks.
func (f *Follower) drop(pod types.UID, reference bundle.Reference) {
	s := f.subjects[reference]
	if s == nil {
		return
	}
	delete(s.users, pod)
	if len(s.users) > 0 {
		return
	}
	delete(f.subjects, reference)
	if s.stop != nil {
		s.stop()
	}
}

// Settle says that an object with this version is immutable: its watch ends.
func (f *Follower) Settle(reference bundle.Reference, version string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.subjects[reference]
	if s == nil || s.settled {
		return
	}
	s.settled, s.version = true, version
	if s.stop != nil {
		s.stop()
	}
}

// Version is the current version of an object, bundle.VersionAbsent for one that does
// not exist; false while it is not known.
func (f *Follower) Version(reference bundle.Reference) (string, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.subjects[reference]
	if s == nil || s.version == "" {
		return "", false
	}
	return s.version, true
}

// Watched is how many objects are being watched.
func (f *Follower) Watched() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watched
}

// Run follows objects until ctx is done.
func (f *Follower) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.fresh:
		}
		for {
			s, watching := f.next(ctx)
			if s == nil {
				break
			}
			running.Go(func() {
				defer f.done(s)
				f.follow(watching, s)
			})
		}
	}
}

// next is an object that is to be watched from now on, or nil.
func (f *Follower) next(ctx context.Context) (*subject, context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for len(f.waiting) > 0 {
		s := f.waiting[0]
		if len(s.users) > 0 && !s.settled && f.watched >= f.cfg.Limit {
			f.crowded.Do(func() {
				logging.From(ctx).Warn("pods reference more objects than can be followed", "limit", f.cfg.Limit)
			})
			return nil, nil //nolint:nilnil // nothing to do is no error
		}
		f.waiting[0] = nil
		f.waiting = f.waiting[1:]
		if len(s.users) == 0 || s.settled {
			continue
		}
		watching, stop := context.WithCancel(ctx)
		s.stop = stop
		f.watched++
		return s, watching
	}
	f.waiting = nil
	return nil, nil //nolint:nilnil // nothing to do is no error
}

// done records that an object is watched no more. One that the pods of a new interest
// refer to again is another subject.
func (f *Follower) done(s *subject) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.stop()
	f.watched--
	f.signal()
}

// signal says that there may be something to watch. It never blocks.
func (f *Follower) signal() {
	select {
	case f.fresh <- struct{}{}:
	default:
	}
}

// set records a version and tells whose it is.
func (f *Follower) set(s *subject, version string) {
	f.mu.Lock()
	if s.settled || s.version == version || version == "" {
		f.mu.Unlock()
		return
	}
	s.version = version
	pods := make([]types.UID, 0, len(s.users))
	for pod := range s.users {
		pods = append(pods, pod)
	}
	f.mu.Unlock()
	f.cfg.Changed(s.reference, pods)
}

// pause waits, and reports whether the wait was not cut short by ctx.
func pause(ctx context.Context, length time.Duration) bool {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
