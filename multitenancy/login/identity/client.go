// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	defaultTimeout = 15 * time.Second
	longestAnswer  = 4 << 20
	retryPause     = 300 * time.Millisecond
)

// Config says which Keystone.
type Config struct {
	// AuthURL is its address, with or without /v3.
	AuthURL string
	// CA are PEM certificates of who may vouch for it, beside the system's.
	CA []byte
	// Timeout bounds each request; 15 s if it is 0.
	Timeout time.Duration
	// Logger hears of requests, without what is in them. May be nil.
	Logger *slog.Logger
	// Now is the machine's clock; time.Now if it is nil.
	Now func() time.Time
	// Dial connects, where that takes more than the network that the program is in. May be nil.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client asks one Keystone. It is safe for concurrent use.
type Client struct {
	url    string
	http   *http.Client
	logger *slog.Logger
	now    func() time.Time
}

// New prepares a client; it asks nothing yet.
func New(cfg Config) (*Client, error) {
	address, err := normal(cfg.AuthURL)
	if err != nil {
		return nil, err
	}
	transport, err := Transport(cfg.CA)
	if err != nil {
		return nil, &Error{Kind: Network, Message: err.Error()}
	}
	transport.DialContext = cfg.Dial
	if cfg.Timeout == 0 {
		cfg.Timeout = defaultTimeout
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Client{
		url: address, logger: cfg.Logger, now: cfg.Now,
		// A redirect could take a password somewhere else.
		http: &http.Client{Transport: transport, Timeout: cfg.Timeout, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
	}, nil
}

// Transport is for HTTP to a server for which the system's authorities or those in PEM vouch.
func Transport(ca []byte) (*http.Transport, error) {
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(ca) > 0 {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(ca) {
			return nil, errors.New("the file of certificate authorities has no certificate in PEM form")
		}
		settings.RootCAs = pool
	}
	return &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: settings, ForceAttemptHTTP2: true, TLSHandshakeTimeout: defaultTimeout}, nil
}

// normal is the address of Keystone's version 3.
func normal(address string) (string, error) {
	parsed, err := url.Parse(strings.TrimSpace(address))
	if err != nil || parsed.Host == "" || parsed.Scheme != "https" && parsed.Scheme != "http" || parsed.User != nil {
		return "", &Error{Kind: Usage, Message: fmt.Sprintf("%q is no address of Keystone; want https://host:5000/v3", address)}
	}
	parsed.RawQuery, parsed.Fragment = "", ""
	parsed.Path = strings.TrimSuffix(parsed.Path, "/")
	parsed.Path = strings.TrimSuffix(parsed.Path, "/v2.0")
	if !strings.HasSuffix(parsed.Path, "/v3") {
		parsed.Path += "/v3"
	}
	return parsed.String(), nil
}

// URL is Keystone's address, as the client uses it.
func (c *Client) URL() string { return c.url }

// call is one request.
type call struct {
	method, path string
	token        Secret
	subject      Secret
	in, out      any
	// again may be sent a second time when the first did not get through.
	again bool
}

// do sends a request, and what may be sent again twice at most.
func (c *Client) do(ctx context.Context, asked call) (http.Header, error) {
	header, err := c.try(ctx, asked)
	if failure, ok := errors.AsType[*Error](err); !ok || !asked.again || failure.Kind != Unavailable {
		return header, err
	}
	pause := time.NewTimer(retryPause)
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return header, err
	case <-pause.C:
		return c.try(ctx, asked)
	}
}

func (c *Client) try(ctx context.Context, asked call) (http.Header, error) {
	var body io.Reader = http.NoBody
	if asked.in != nil {
		data, err := json.Marshal(asked.in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, asked.method, c.url+asked.path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	if asked.token != "" {
		request.Header.Set("X-Auth-Token", string(asked.token))
	}
	if asked.subject != "" {
		request.Header.Set("X-Subject-Token", string(asked.subject))
	}
	begin := time.Now()
	answer, err := c.http.Do(request)
	if err != nil {
		c.logger.DebugContext(ctx, "keystone did not answer", "method", asked.method, "url", c.url+asked.path)
		return nil, Unreachable("Keystone", c.url, err, c.now())
	}
	defer func() { _ = answer.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(answer.Body, longestAnswer))
	c.logger.DebugContext(ctx, "asked keystone", "method", asked.method, "url", c.url+asked.path, "status", answer.StatusCode, "took", time.Since(begin))
	if err != nil {
		return nil, Unreachable("Keystone", c.url, err, c.now())
	}
	if answer.StatusCode/100 != 2 {
		return answer.Header, refused(c.url, answer, data)
	}
	if asked.out != nil {
		if err := json.Unmarshal(data, asked.out); err != nil {
			return answer.Header, &Error{Kind: Network, Message: "what answers at " + c.url + " is not Keystone; check the address"}
		}
	}
	return answer.Header, nil
}
