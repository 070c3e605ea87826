// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
)

const (
	// maxStatuses bounds a plugin's answer to /status, maxAnswer any other one.
	maxStatuses = 256 << 20
	maxAnswer   = 4 << 20
	// maxReason bounds how much of a plugin's error answer is passed on.
	maxReason = 4 << 10
	// offerAge is how long what a plugin offers is believed without asking again,
	// offerRetry how long to wait after it could not be asked.
	offerAge   = 30 * time.Second
	offerRetry = 5 * time.Second
)

// plugin sends requests to the far side. One transport with kept connections
// serves all of them.
type plugin struct {
	base    string
	http    *http.Client
	timeout time.Duration
	// upgrades sends the requests that take over their connection.
	upgrades http.RoundTripper

	mu      sync.Mutex
	offered []interlink.Extension
	asked   time.Time
	// unknown is why it is not known what the plugin offers; nil once it has said so.
	unknown error
}

func newPlugin(cfg Config) (*plugin, error) {
	base, err := interlink.RequestBase(cfg.PluginURL)
	if err != nil {
		return nil, fmt.Errorf("plugin: %w", err)
	}
	transport, err := interlink.NewTransport(cfg.PluginURL, cfg.PluginTLS)
	if err != nil {
		return nil, fmt.Errorf("plugin: %w", err)
	}
	var tripper http.RoundTripper = transport
	if cfg.WrapTransport != nil {
		tripper = cfg.WrapTransport(transport)
	}
	client := &http.Client{
		Transport: tripper,
		// A plugin has no business in sending pods and secrets elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var upgrades http.RoundTripper = transport
	if cfg.WrapUpgrade != nil {
		upgrades = cfg.WrapUpgrade(transport)
	}
	return &plugin{base: base, http: client, timeout: cfg.Limits.PluginTimeout, upgrades: upgrades}, nil
}

// message is one request to the plugin.
type message struct {
	method, path string
	body         []byte
	// repeatable allows a second try on a connection that the plugin had closed.
	repeatable bool
	// stream asks for an answer that is not compressed.
	stream bool
}

// send returns the plugin's answer when it is 200, else a refusal with the
// plugin's code and text, as upstream does.
func (p *plugin) send(ctx context.Context, x *exchange, m message) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, m.method, p.base+m.path, bytes.NewReader(m.body))
	if err != nil {
		return nil, fmt.Errorf("plugin request: %w", err)
	}
	request.Header.Set("Content-Type", contentJSON)
	request.Header.Set(interlink.HeaderSession, x.session)
	if x.client != "" {
		request.Header.Set(interlink.HeaderClient, x.client)
	}
	if x.probe {
		request.Header.Set(interlink.HeaderProbe, "true")
	}
	if m.stream {
		request.Header.Set("Accept-Encoding", "identity")
	}
	if m.repeatable {
		request.Header["Idempotency-Key"] = []string{} // understood by net/http and not sent
	}
	answer, err := p.http.Do(request)
	if err != nil {
		p.http.CloseIdleConnections() // they may be as dead as this one
		return nil, unreachable(ctx, err)
	}
	if answer.StatusCode == http.StatusOK {
		return answer, nil
	}
	defer func() { _ = answer.Body.Close() }()
	return nil, pluginRefusal(answer)
}

// call sends a message and reads the whole answer.
func (p *plugin) call(ctx context.Context, x *exchange, m message, limit int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	answer, err := p.send(ctx, x, m)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, limit+1))
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	if int64(len(body)) > limit {
		return nil, refuse(http.StatusBadGateway, "the plugin's answer is larger than %d bytes", limit)
	}
	return body, nil
}

// unreachable is the answer when there is none of the plugin: 500 as upstream's,
// with a sentence. The cause names addresses of the site, so it is only logged.
func unreachable(ctx context.Context, err error) error {
	logging.From(ctx).WarnContext(ctx, "plugin gave no answer", "error", err)
	if errors.Is(err, context.DeadlineExceeded) {
		return refuse(http.StatusInternalServerError, "the interLink plugin did not answer in time")
	}
	return refuse(http.StatusInternalServerError, "the interLink plugin cannot be reached")
}

func pluginRefusal(answer *http.Response) error {
	// A cut body leaves a shorter text; the code is what counts.
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxReason))
	reason := strings.TrimSpace(strings.ToValidUTF8(string(text), "?"))
	if reason == "" {
		reason = fmt.Sprintf("the interLink plugin answered %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	}
	return &refusalError{
		code:    answer.StatusCode,
		text:    reason,
		refused: answer.Header.Get(interlink.HeaderRefusal) == "true",
	}
}

// ping asks the plugin for its health and remembers what it offers. What is answered to
// no client counts only if it offers something: a plugin may do so for clients only.
func (p *plugin) ping(ctx context.Context, x *exchange) ([]byte, error) {
	body, err := p.call(ctx, x, message{method: http.MethodGet, path: interlink.PathStatus, body: []byte("[]")}, maxAnswer)
	if err != nil {
		return nil, err
	}
	offered := offersOf(body)
	if x.probe && offered == nil {
		return body, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.offered, p.asked, p.unknown = offered, time.Now(), nil
	return body, nil
}

// offers returns what both the plugin and this gateway can do beyond upstream, asking
// the plugin unless it said so lately. When it cannot be asked, the last answer counts;
// of a plugin that never answered nobody may say that it offers nothing, as that is
// another thing than not to be usable yet.
func (p *plugin) offers(ctx context.Context, x *exchange) ([]interlink.Extension, error) {
	if last := p.lastOffer(); last.fresh {
		return usable(last.extensions), last.unknown
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if _, err := p.ping(ctx, x); err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.asked.IsZero() || p.unknown != nil {
			p.unknown = err
		}
		p.asked = time.Now().Add(offerRetry - offerAge)
		return usable(p.offered), p.unknown
	}
	last := p.lastOffer()
	return usable(last.extensions), last.unknown
}

// offer is what the plugin said last of what it can do.
type offer struct {
	extensions []interlink.Extension
	fresh      bool
	unknown    error
}

func (p *plugin) lastOffer() offer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return offer{extensions: p.offered, fresh: time.Since(p.asked) < offerAge, unknown: p.unknown}
}

// usable is what both the plugin and this gateway can do.
func usable(offered []interlink.Extension) []interlink.Extension {
	both := []interlink.Extension{}
	for _, extension := range supported() {
		if slices.Contains(offered, extension) {
			both = append(both, extension)
		}
	}
	return both
}
