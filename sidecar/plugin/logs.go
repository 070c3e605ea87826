// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"context"
	"errors"
	"io"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin/request"
)

const (
	// logBuffer is all that a log stream holds in memory.
	logBuffer = 32 << 10
	// maxLogRequest bounds the body of a log request.
	maxLogRequest = 64 << 10
)

// containerLog streams the log of one container, byte for byte, as it comes.
func (p *Plugin) containerLog(w http.ResponseWriter, r *http.Request) {
	data, err := p.bodies.read(w, r, maxLogRequest)
	if err != nil {
		bodyError(w, err)
		return
	}
	wanted, err := request.Logs(data)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	ctx, cancel := httpserver.Stream(r.Context())
	defer cancel()
	pod, err := p.find(ctx, keyOf(r, wanted.PodUID))
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	if pod == nil {
		http.Error(w, "the target cluster does not hold this pod", http.StatusNotFound)
		return
	}
	stream, err := p.logs.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, logOptions(wanted)).Stream(ctx)
	if err != nil {
		logFailed(ctx, w, err)
		return
	}
	defer func() { _ = stream.Close() }()
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusOK)
	if err := pass(w, stream); err != nil && ctx.Err() == nil {
		logging.From(ctx).WarnContext(ctx, "log stream broke", "pod", pod.Namespace+"/"+pod.Name, "error", err)
		panic(http.ErrAbortHandler) //nolint:forbidigo // cuts the connection: a normal end would make a cut log look whole
	}
}

func logOptions(wanted *interlink.LogRequest) *corev1.PodLogOptions {
	opts := &wanted.Opts
	options := &corev1.PodLogOptions{
		Container: wanted.ContainerName, Follow: opts.Follow, Previous: opts.Previous, Timestamps: opts.Timestamps,
		TailLines: unlessZero(opts.Tail), LimitBytes: unlessZero(opts.LimitBytes), SinceSeconds: unlessZero(opts.SinceSeconds),
	}
	if !opts.SinceTime.IsZero() {
		options.SinceTime = &metav1.Time{Time: opts.SinceTime}
	}
	return options
}

func unlessZero(value int) *int64 {
	if value == 0 {
		return nil
	}
	return new(int64(value))
}

// logFailed answers before the first byte, in the kubelet's words where it spoke.
func logFailed(ctx context.Context, w http.ResponseWriter, err error) {
	if ctx.Err() != nil {
		return
	}
	if apierrors.IsUnauthorized(err) { // it is the sidecar that is not let in, not the caller
		http.Error(w, "the target cluster does not accept the sidecar's credentials", http.StatusServiceUnavailable)
		return
	}
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Code >= http.StatusBadRequest {
		http.Error(w, status.Status().Message, int(status.Status().Code))
		return
	}
	logging.From(ctx).WarnContext(ctx, "log not opened", "error", err)
	http.Error(w, "the target cluster cannot be reached", http.StatusServiceUnavailable)
}

// pass copies with a flush after every read, so that a reader who follows sees each
// line when it is written.
func pass(w http.ResponseWriter, from io.Reader) error {
	control := http.NewResponseController(w)
	if err := control.Flush(); err != nil {
		return err
	}
	buffer := make([]byte, logBuffer)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := w.Write(buffer[:n]); err != nil {
				return err
			}
			if err := control.Flush(); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
