// SPDX-License-Identifier: Apache-2.0

package property

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/cloudveneto/caas/test/property/site"
)

const (
	dialTimeout = 5 * time.Second
	// openWatches is how many there are at a time.
	openWatches = 10
	watchSettle = 10 * time.Second
	watchTick   = 20 * time.Millisecond
)

func dialer() *net.Dialer { return &net.Dialer{Timeout: dialTimeout} }

// watcher is an open watch of a user. All that it says is judged.
type watcher struct {
	step step
	stop context.CancelFunc
	over sync.WaitGroup

	mu sync.Mutex
	// values are those of what there is now by what the watch said, but for what controllers made.
	values map[string]string
	err    error
}

// watch opens one. Without a watcher, the answer says why not.
func (p *player) watch(ctx context.Context, s step, allowed func(seen) error) (*watcher, answer, error) {
	ctx, stop := context.WithCancel(ctx)
	c := s.call()
	c.query.Set("watch", "true")
	response, err := p.send(ctx, s.actor.name, c)
	if err != nil {
		stop()
		return nil, answer{}, err
	}
	if response.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(response.Body, answerLimit))
		stop()
		return nil, answer{code: response.StatusCode, body: body}, errors.Join(err, response.Body.Close())
	}
	w := &watcher{step: s, stop: stop, values: map[string]string{}}
	w.over.Go(func() {
		defer func() { _ = response.Body.Close() }() // nothing more is wanted
		w.read(response.Body, allowed)
	})
	return w, answer{code: response.StatusCode}, nil
}

func (w *watcher) read(from io.Reader, allowed func(seen) error) {
	events := json.NewDecoder(from)
	for {
		var event struct {
			Type   string `json:"type"`
			Object seen   `json:"object"`
		}
		if events.Decode(&event) != nil {
			return // it has ended, which is no secret
		}
		if event.Type == "ERROR" || event.Type == "BOOKMARK" {
			continue
		}
		w.note(event.Type == "DELETED", event.Object, allowed(event.Object))
	}
}

func (w *watcher) note(deleted bool, one seen, wrong error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch value, made := one.Annotations[valueKey]; {
	case !made || fromController(one):
	case deleted:
		delete(w.values, one.Name)
	default:
		w.values[one.Name] = value
	}
	if wrong != nil && w.err == nil {
		w.err = fmt.Errorf("watch of %s: %w", w.step, wrong)
	}
}

func fromController(one seen) bool {
	for _, reference := range one.OwnerReferences {
		if reference.Controller != nil && *reference.Controller {
			return true
		}
	}
	return false
}

func (w *watcher) problem() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// has compares what the watch has said with what there is.
func (w *watcher) has(want map[string]string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Equal(w.values, want)
}

// end closes the watch. When want is not nil, it must have said all of it, and no more.
func (w *watcher) end(ctx context.Context, want map[string]string) error {
	var err error
	if want != nil {
		err = site.Await(ctx, watchSettle, watchTick, "the watch to say all", func() (bool, error) { return w.has(want), w.problem() })
		if err != nil {
			w.mu.Lock()
			err = fmt.Errorf("watch of %s: %w: it says %v, and there is %v", w.step, err, w.values, want)
			w.mu.Unlock()
		}
	}
	w.stop()
	w.over.Wait()
	return errors.Join(err, w.problem())
}
