// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"time"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin/events"
	"github.com/cloudveneto/caas/sidecar/plugin/podstate"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
)

const (
	// flushTimeout is how long a reader may take for one batch before it is dropped;
	// it finds everything in the snapshot of its next stream.
	flushTimeout = 10 * time.Second
	// batchTime is how long changes are collected after a flush. A change that comes
	// after a pause goes out at once.
	batchTime = 5 * time.Millisecond
)

// stream tells a virtual kubelet every change of its pods as it happens.
func (p *Plugin) stream(w http.ResponseWriter, r *http.Request) {
	if !p.watcher.Synced() {
		http.Error(w, "the pods in the target cluster are not known yet", http.StatusServiceUnavailable)
		return
	}
	query := r.URL.Query()
	selection := table.Selection{
		Origin: originOf(r), Cluster: query.Get(interlink.QueryCluster), Node: query.Get(interlink.QueryNode),
	}
	ctx, cancel := httpserver.Stream(r.Context())
	defer cancel()
	p.metrics.streams.Inc()
	defer p.metrics.streams.Dec()
	logger := logging.From(ctx).With("origin", selection.Origin, "cluster", selection.Cluster, "node", selection.Node)
	logger.InfoContext(ctx, "status stream opened")
	s := newStatusStream(p, w, selection)
	if query.Get(interlink.QueryEvents) == "true" {
		s.happened = p.happened.Subscribe(selection)
	}
	defer s.close()
	if err := s.run(ctx); err != nil && ctx.Err() == nil {
		logger.WarnContext(ctx, "status stream broke", "error", err)
		return
	}
	logger.InfoContext(ctx, "status stream closed")
}

// statusStream is one reader of statuses.
type statusStream struct {
	plugin       *Plugin
	selection    table.Selection
	subscription *table.Subscription
	// happened is nil unless the reader asked for events.
	happened *events.Subscription
	capacity <-chan struct{}
	stop     func()

	control *http.ResponseController
	// timed is true when the server sets the deadline of each write.
	timed   bool
	buffer  *bufio.Writer
	encoder *json.Encoder
	node    interlink.PingResponse
	flushed time.Time
}

func newStatusStream(p *Plugin, w http.ResponseWriter, selection table.Selection) *statusStream {
	w.Header().Set("Content-Type", interlink.ContentTypeStream)
	w.Header().Set("Cache-Control", "no-store")
	s := &statusStream{
		plugin: p, selection: selection, subscription: p.table.Subscribe(selection),
		control: http.NewResponseController(w), timed: httpserver.AllowSlowReader(w, flushTimeout),
		buffer: bufio.NewWriterSize(w, 64<<10),
	}
	s.capacity, s.stop = p.watcher.Changed()
	s.encoder = json.NewEncoder(s.buffer)
	s.encoder.SetEscapeHTML(false)
	return s
}

func (s *statusStream) close() {
	s.stop()
	s.plugin.table.Unsubscribe(s.subscription)
	if s.happened != nil {
		s.plugin.happened.Unsubscribe(s.happened)
	}
}

// run writes the snapshot and then changes, until ctx is done or the reader fails.
func (s *statusStream) run(ctx context.Context) error {
	if err := s.begin(); err != nil {
		return err
	}
	heartbeat := time.NewTimer(interlink.HeartbeatSeconds * time.Second)
	defer heartbeat.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-s.subscription.Wake():
			if !s.gather(ctx) {
				return nil
			}
			err = s.changes()
		case <-s.happened.Wake():
			err = s.podEvents()
		case <-s.capacity:
			err = s.nodeEvent(false)
		case <-heartbeat.C:
			err = s.write(interlink.StatusEvent{Type: interlink.EventHeartbeat})
		}
		if err == nil && s.buffer.Buffered() > 0 {
			heartbeat.Reset(interlink.HeartbeatSeconds * time.Second)
			err = s.flush()
		}
		if err != nil {
			return err
		}
	}
}

// begin writes the node, the snapshot and the mark after it.
func (s *statusStream) begin() error {
	if err := s.nodeEvent(true); err != nil {
		return err
	}
	if err := s.changes(); err != nil {
		return err
	}
	if err := s.write(interlink.StatusEvent{Type: interlink.EventSynced}); err != nil {
		return err
	}
	return s.flush()
}

// gather waits for the end of the batch time since the last flush.
func (s *statusStream) gather(ctx context.Context) bool {
	left := batchTime - time.Since(s.flushed)
	if left <= 0 {
		return true
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (s *statusStream) changes() error {
	for _, change := range s.subscription.Take() {
		status := podstate.True(change.Pod)
		event := interlink.StatusEvent{Type: interlink.EventStatus, Status: &status}
		if change.Gone {
			event.Type = interlink.EventGone
		}
		if err := s.write(event); err != nil {
			return err
		}
	}
	return nil
}

// podEvents tells what happened to the pods.
func (s *statusStream) podEvents() error {
	taken := s.happened.Take()
	for i := range taken {
		if err := s.write(interlink.StatusEvent{Type: interlink.EventPodEvent, Event: &taken[i]}); err != nil {
			return err
		}
	}
	return nil
}

// nodeEvent tells what there is room for, when it is not what was told before.
func (s *statusStream) nodeEvent(always bool) error {
	node := s.plugin.offer(s.selection)
	if !always && reflect.DeepEqual(node, s.node) {
		return nil
	}
	s.node = node
	return s.write(interlink.StatusEvent{Type: interlink.EventNode, Node: &node})
}

func (s *statusStream) write(event interlink.StatusEvent) error {
	s.extend()
	s.plugin.metrics.events.Inc()
	return s.encoder.Encode(event)
}

func (s *statusStream) flush() error {
	s.extend()
	if err := s.buffer.Flush(); err != nil {
		return err
	}
	s.flushed = time.Now()
	return s.control.Flush()
}

// extend gives the reader time for what is written next, where the server itself
// does not. A server that cannot is one without connections, in a test.
func (s *statusStream) extend() {
	if !s.timed {
		_ = s.control.SetWriteDeadline(time.Now().Add(flushTimeout))
	}
}
