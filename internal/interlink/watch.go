// SPDX-License-Identifier: Apache-2.0

package interlink

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// maxEvent bounds one line of a status stream: a pod has at most a few hundred
// containers, each with a state of a few kilobytes.
const maxEvent = 16 << 20

// WatchRequest selects the pods of one virtual node.
type WatchRequest struct {
	Cluster string
	Node    string
	// Events asks for the pods' Events too; the far end MUST offer ExtensionEvents.
	Events bool
}

// ErrStreamSilent ends a status stream whose far end sent nothing, not even a
// heartbeat, for three heartbeat periods.
var ErrStreamSilent = errors.New("status stream: far end is silent")

// Watch opens the status stream and calls handle for each event, in order, until
// the stream ends, handle fails or ctx is done. It returns io.EOF when the far
// end closed the stream in good order. handle may block: the far end merges what
// happens meanwhile.
func (c *Client) Watch(ctx context.Context, request WatchRequest, handle func(StatusEvent) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	query := url.Values{QueryCluster: {request.Cluster}, QueryNode: {request.Node}}
	if request.Events {
		query.Set(QueryEvents, "true")
	}
	silence := 3 * HeartbeatSeconds * time.Second
	watchdog := time.AfterFunc(silence, func() { cancel(ErrStreamSilent) })
	defer watchdog.Stop()
	answer, err := c.send(ctx, "status stream", http.MethodGet, PathWatch+"?"+query.Encode(), nil)
	if err != nil {
		return causeOf(ctx, err)
	}
	defer func() { _ = answer.Body.Close() }()
	lines := bufio.NewScanner(answer.Body)
	lines.Buffer(make([]byte, 64<<10), maxEvent)
	for lines.Scan() {
		watchdog.Stop()
		var event StatusEvent
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return fmt.Errorf("status stream: decode event: %w", err)
		}
		if err := handle(event); err != nil {
			return err
		}
		watchdog.Reset(silence)
	}
	if err := lines.Err(); err != nil {
		c.distrust()
		return causeOf(ctx, fmt.Errorf("status stream: %w", err))
	}
	return io.EOF
}

// causeOf prefers why ctx was cancelled over the error that the cancelling caused.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
