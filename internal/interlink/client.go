// SPDX-License-Identifier: Apache-2.0

package interlink

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// maxAnswer bounds any answer but logs and streams; a status answer of 5,000
	// pods with ten containers each stays below it.
	maxAnswer = 256 << 20
	// maxMessage bounds the part of an error answer that is kept for users.
	maxMessage = 4 << 10
)

// ClientConfig says how to reach the far end.
type ClientConfig struct {
	// BaseURL is http://host:port, https://host:port or unix:///path.
	BaseURL string
	// HTTP is the client to use; its transport must fit BaseURL (see NewTransport).
	// It must have no overall timeout, or streams end by it.
	HTTP *http.Client
	// Token returns the bearer token of the next request; nil or "" sends none.
	// It is asked for every request, so that a rotated token is used at once.
	Token func() (string, error)
	// Timeout bounds every call but logs and streams; default 2 minutes.
	Timeout time.Duration
	// Streams says how streams into pods are opened.
	Streams StreamConfig
}

// StreamConfig says how connections that are upgraded reach the far end.
type StreamConfig struct {
	// Transport MUST speak HTTP/1.1; default is that of HTTP.
	Transport http.RoundTripper
	// TLS is what Transport uses, for the protocols that dial by themselves.
	TLS *tls.Config
	// Wrap, when set, is put around what sends the request (tracing).
	Wrap func(http.RoundTripper) http.RoundTripper
}

// Client speaks to an interLink API server as a virtual kubelet does. It may be
// used by many goroutines at once.
type Client struct {
	base    string
	http    *http.Client
	token   func() (string, error)
	timeout time.Duration
	streams StreamConfig
	unix    bool
}

// NewClient returns a client for the API server at cfg.BaseURL.
func NewClient(cfg ClientConfig) (*Client, error) {
	base, err := RequestBase(cfg.BaseURL)
	if err != nil {
		return nil, err
	}
	if cfg.HTTP == nil {
		return nil, errors.New("interlink client: no HTTP client given")
	}
	if cfg.Token == nil {
		cfg.Token = func() (string, error) { return "", nil }
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 2 * time.Minute
	}
	if cfg.Streams.Transport == nil {
		cfg.Streams.Transport = cfg.HTTP.Transport
	}
	if cfg.Streams.Transport == nil {
		cfg.Streams.Transport = http.DefaultTransport
	}
	return &Client{
		base: base, http: cfg.HTTP, token: cfg.Token, timeout: cfg.Timeout,
		streams: cfg.Streams, unix: strings.HasPrefix(cfg.BaseURL, "unix:"),
	}, nil
}

// RequestBase is what the URLs of requests to the far end at baseURL start with;
// a unix socket's host is "unix".
func RequestBase(baseURL string) (string, error) {
	u, err := url.Parse(baseURL)
	if err != nil {
		return "", fmt.Errorf("far end address: %w", err)
	}
	switch u.Scheme {
	case "unix":
		return "http://unix", nil
	case "http", "https":
		if u.Host == "" {
			return "", fmt.Errorf("far end address %q: no host given", baseURL)
		}
		return strings.TrimSuffix(u.String(), "/"), nil
	default:
		return "", fmt.Errorf("far end address %q: scheme must be http, https or unix", baseURL)
	}
}

// Ping asks whether the far end is usable and what it offers. An answer that is
// no PingResponse (older plugins) is an empty one.
func (c *Client) Ping(ctx context.Context) (PingResponse, error) {
	var answer PingResponse
	body, err := c.call(ctx, "ping", http.MethodPost, PathPing, nil)
	if err != nil {
		return answer, err
	}
	if json.Unmarshal(body, &answer) != nil {
		return PingResponse{}, nil //nolint:nilerr // older plugins answer a list or any text
	}
	return answer, nil
}

// Create asks the far end to run one pod. IsRefused tells whether an error is final.
func (c *Client) Create(ctx context.Context, request *CreateRequest) (Created, error) {
	var answer Created
	body, err := c.call(ctx, "create pod", http.MethodPost, PathCreate, request)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return answer, fmt.Errorf("create pod: decode answer: %w", err)
	}
	if answer.PodUID != string(request.Pod.UID) {
		return answer, fmt.Errorf("create pod: answer is for pod UID %q, asked for %q", answer.PodUID, request.Pod.UID)
	}
	return answer, nil
}

// Delete asks the far end to delete one pod; an unknown pod is no error.
func (c *Client) Delete(ctx context.Context, pod *corev1.Pod) error {
	_, err := c.call(ctx, "delete pod", http.MethodDelete, PathDelete, pod)
	return err
}

// Status asks for the state of pods. Pods that the far end does not mention are
// missing from the answer, which may be empty.
func (c *Client) Status(ctx context.Context, pods []*corev1.Pod) ([]PodStatus, error) {
	body, err := c.call(ctx, "pod status", http.MethodGet, PathStatus, pods)
	if err != nil {
		return nil, err
	}
	var answer []PodStatus
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("pod status: decode answer: %w", err)
	}
	return answer, nil
}

// Logs streams the log of one container. The caller closes the stream; ctx
// bounds its whole life.
func (c *Client) Logs(ctx context.Context, request LogRequest) (io.ReadCloser, error) {
	answer, err := c.send(ctx, "container log", http.MethodGet, PathLogs, request)
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

// call sends one request and reads the whole answer.
func (c *Client) call(ctx context.Context, operation, method, path string, message any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	answer, err := c.send(ctx, operation, method, path, message)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("%s: read answer: %w", operation, err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("%s: answer is larger than %d bytes", operation, maxAnswer)
	}
	return body, nil
}

// send sends one request and returns the answer when its status is 200, the
// protocol's only success.
func (c *Client) send(ctx context.Context, operation, method, path string, message any) (*http.Response, error) {
	var body io.Reader = http.NoBody
	if message != nil {
		encoded, err := json.Marshal(message)
		if err != nil {
			return nil, fmt.Errorf("%s: encode request: %w", operation, err)
		}
		body = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", operation, err)
	}
	if message != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if err := c.sign(request.Header, operation); err != nil {
		return nil, err
	}
	answer, err := c.http.Do(request)
	if err != nil {
		c.distrust()
		return nil, fmt.Errorf("%s: %w", operation, err)
	}
	if answer.StatusCode != http.StatusOK {
		defer func() { _ = answer.Body.Close() }()
		return nil, statusError(operation, answer)
	}
	return answer, nil
}

// distrust has no request use a connection that was kept: if one of them is dead, without a word of its far end, the others
// may be as well, and each would cost a timeout.
func (c *Client) distrust() { c.http.CloseIdleConnections() }

func statusError(operation string, answer *http.Response) error {
	// A cut body leaves a shorter message; the status code is what counts.
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxMessage))
	return &StatusError{
		Operation: operation,
		Code:      answer.StatusCode,
		Message:   strings.ToValidUTF8(strings.TrimSpace(string(text)), "?"),
		Refused:   answer.Header.Get(HeaderRefusal) == "true",
	}
}

// session makes a correlation id in upstream's form, for instance CreatePod#4711.
func session(operation string) string {
	names := map[string]string{
		"ping": "PingInterLink", "create pod": "CreatePod", "update pod": "UpdatePod", "delete pod": "DeletePod",
		"pod status": "GetStatus", "container log": "GetLogs", "status stream": "WatchStatus",
		"add ephemeral containers": "AddEphemeral", "pod figures": "GetStats",
		string(StreamExec): "Exec", string(StreamAttach): "Attach", string(StreamPortForward): "PortForward",
	}
	return fmt.Sprintf("%s#%d", names[operation], rand.IntN(100000)) //nolint:gosec // a correlation id is no secret
}
