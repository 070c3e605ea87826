// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/internal/tunnel"
	"github.com/cloudveneto/caas/sidecar/plugin/request"
)

// maxRefusal bounds what is read of an answer that does not upgrade.
const maxRefusal = 64 << 10

// session connects a caller to a pod of his: to a new command, to the main process
// or to ports. The caller speaks SPDY, by itself or inside WebSocket, to the target
// cluster's kubelet, whose terminal sizes, exit codes and end of the input are passed
// on as they are.
func (p *Plugin) session(w http.ResponseWriter, r *http.Request) {
	uid, kind, ok := interlink.ParsePodStreamPath(r.URL.Path)
	switch {
	case !ok || !request.UsableUID(uid):
		http.Error(w, "this is no UID of a pod", http.StatusBadRequest)
		return
	case p.upgrades == nil:
		http.Error(w, "this plugin does not offer "+string(kind), http.StatusNotImplemented)
		return
	case !tunnel.IsUpgrade(r):
		http.Error(w, string(kind)+" needs a connection that is upgraded to WebSocket or SPDY/3.1", http.StatusBadRequest)
		return
	case tunnel.Protocol(r) == tunnel.WebSocket && !tunnel.CarriesSPDY(r):
		http.Error(w, string(kind)+" by WebSocket needs a sub-protocol that begins with "+tunnel.CarriedPrefix, http.StatusBadRequest)
		return
	}
	select {
	case p.sessions <- struct{}{}:
		defer func() { <-p.sessions }()
	default:
		http.Error(w, fmt.Sprintf("%d connections into pods are open, and no more are allowed; close some and try again", cap(p.sessions)),
			http.StatusTooManyRequests)
		return
	}
	ctx, cancel := httpserver.Stream(r.Context())
	defer cancel()
	pod, err := p.find(ctx, keyOf(r, uid))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if pod == nil {
		http.Error(w, "the target cluster does not hold this pod", http.StatusNotFound)
		return
	}
	target, err := p.sessionURL(pod, kind, r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.connect(ctx, w, r, connection{kind: kind, pod: pod, target: target})
}

// connection is one session that is about to be opened.
type connection struct {
	kind   interlink.StreamKind
	pod    *corev1.Pod
	target *url.URL
}

func (p *Plugin) connect(ctx context.Context, w http.ResponseWriter, r *http.Request, c connection) {
	p.metrics.opened.WithLabelValues(string(c.kind)).Inc()
	open := p.metrics.open.WithLabelValues(string(c.kind))
	open.Inc()
	defer open.Dec()
	logger := logging.From(ctx).With("kind", c.kind, "pod", c.pod.Namespace+"/"+c.pod.Name, "origin", originOf(r))
	proxy := &httputil.ReverseProxy{
		Transport: p.upgrades,
		ErrorLog:  slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		Rewrite: func(passed *httputil.ProxyRequest) {
			passed.Out.URL, passed.Out.Host = c.target, ""
			passed.Out.Header = tunnel.Request(passed.In.Header)
		},
		ModifyResponse: func(answer *http.Response) error {
			answer.Header = tunnel.Answer(answer.Header)
			return explain(answer)
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if ctx.Err() != nil {
				return // nobody is left to be told
			}
			logger.WarnContext(ctx, "session not opened", "error", err)
			http.Error(w, "the target cluster cannot be reached", http.StatusServiceUnavailable)
		},
	}
	logger.InfoContext(ctx, "session opened")
	err := tunnel.ServeSPDY(w, r.WithContext(ctx), proxy, tunnel.Limits{Idle: p.settings.SessionIdle.Duration})
	logger.InfoContext(ctx, "session closed", "reason", err)
}

// sessionURL is the pod's subresource. Only what Kubernetes knows of the query is
// passed on.
func (p *Plugin) sessionURL(pod *corev1.Pod, kind interlink.StreamKind, query url.Values) (*url.URL, error) {
	var options runtime.Object = &corev1.PodPortForwardOptions{}
	if kind != interlink.StreamPortForward {
		terminal, err := terminalOptions(query)
		if err != nil {
			return nil, err
		}
		options = terminal
		if kind == interlink.StreamExec {
			if len(query[interlink.QueryCommand]) == 0 {
				return nil, errors.New("exec needs a command")
			}
			options = &corev1.PodExecOptions{
				Stdin: terminal.Stdin, Stdout: terminal.Stdout, Stderr: terminal.Stderr, TTY: terminal.TTY,
				Container: terminal.Container, Command: query[interlink.QueryCommand],
			}
		}
	}
	return p.logs.CoreV1().RESTClient().Get().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).
		SubResource(string(kind)).VersionedParams(options, scheme.ParameterCodec).URL(), nil
}

func terminalOptions(query url.Values) (*corev1.PodAttachOptions, error) {
	options := &corev1.PodAttachOptions{Container: query.Get(interlink.QueryContainer)}
	for name, field := range map[string]*bool{
		interlink.QueryStdin: &options.Stdin, interlink.QueryStdout: &options.Stdout,
		interlink.QueryStderr: &options.Stderr, interlink.QueryTTY: &options.TTY,
	} {
		text := query.Get(name)
		if text == "" {
			continue
		}
		value, err := strconv.ParseBool(text)
		if err != nil {
			return nil, errors.New(name + " must be true or false")
		}
		*field = value
	}
	return options, nil
}

// explain makes a plain sentence of an answer that does not upgrade: callers show it
// to users, and they are no clients of this API server.
func explain(answer *http.Response) error {
	if answer.StatusCode == http.StatusSwitchingProtocols {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(answer.Body, maxRefusal))
	if err != nil {
		return err
	}
	_ = answer.Body.Close()
	var status metav1.Status
	text := string(data)
	if json.Unmarshal(data, &status) == nil && status.Message != "" {
		text = status.Message
	}
	if answer.StatusCode < http.StatusBadRequest {
		answer.StatusCode, text = http.StatusBadGateway, "the target cluster did not open the connection"
	}
	answer.Header.Set("Content-Type", "text/plain; charset=utf-8")
	answer.Header.Del("Content-Length")
	answer.ContentLength = int64(len(text))
	answer.Body = io.NopCloser(strings.NewReader(text))
	return nil
}
