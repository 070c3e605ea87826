// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"regexp"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cloudveneto/caas/internal/httpserver"
	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
)

const (
	// logChunk is how much of a log is read and flushed at one time.
	logChunk = 64 << 10
	// pagerPatience is how long somebody may look at one page of a log.
	pagerPatience = 30 * time.Minute
)

// logs answers /getLogs with the plugin's stream, flushed as it comes, until it
// ends or the caller leaves.
func (g *Gateway) logs(x *exchange) error {
	request, err := g.logRequest(x)
	if err != nil {
		return err
	}
	body, err := json.Marshal(request)
	if err != nil {
		return refuse(http.StatusBadRequest, "getLogs: SinceTime cannot be expressed")
	}
	ctx := x.r.Context()
	if request.Opts.Follow {
		stream, cancel := httpserver.Stream(ctx)
		defer cancel()
		ctx = stream
	}
	answer, err := g.plugin.send(ctx, x, message{method: http.MethodGet, path: interlink.PathLogs, body: body, stream: true})
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	httpserver.AllowSlowReader(x.w, pagerPatience)
	x.w.Header().Set("Content-Type", contentText)
	x.w.Header().Set("X-Content-Type-Options", "nosniff")
	flushed := &flushing{to: x.w, control: http.NewResponseController(x.w)}
	if err := flushed.flush(); err != nil {
		return nil // the caller has gone, there is nobody to tell
	}
	_, err = io.CopyBuffer(flushed, io.MultiReader(answer.Body), make([]byte, logChunk))
	if err != nil && ctx.Err() == nil && flushed.err == nil {
		logging.From(ctx).WarnContext(ctx, "log stream broke", "error", err)
		panic(http.ErrAbortHandler) //nolint:forbidigo // cuts the connection: half a log must not look whole
	}
	return nil
}

// flushing flushes after every write, and remembers that the reader has gone.
type flushing struct {
	to      io.Writer
	control *http.ResponseController
	err     error
}

func (f *flushing) Write(p []byte) (int, error) {
	n, err := f.to.Write(p)
	if err != nil {
		f.err = err
		return n, err
	}
	return n, f.flush()
}

func (f *flushing) flush() error {
	err := f.control.Flush()
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	f.err = err
	return err
}

func (g *Gateway) logRequest(x *exchange) (interlink.LogRequest, error) {
	var request interlink.LogRequest
	body, release, err := g.body(x)
	if err != nil {
		return request, err
	}
	defer release()
	if err := json.Unmarshal(body, &request); err != nil {
		return request, refuse(http.StatusBadRequest, "invalid request body: %s", describe(err))
	}
	if err := checkLogRequest(request); err != nil {
		return request, err
	}
	// Upstream forbids the combination, Kubernetes and this project's plugin do not.
	if request.Opts.Tail == 0 || request.Opts.LimitBytes == 0 {
		return request, nil
	}
	offered, err := g.plugin.offers(x.r.Context(), x)
	if err == nil && len(offered) == 0 {
		err = refuse(http.StatusBadRequest, "getLogs: Tail and Bytes cannot be used together with this plugin")
	}
	return request, err
}

func checkLogRequest(request interlink.LogRequest) error {
	switch {
	case len(validation.IsDNS1123Label(request.Namespace)) > 0:
		return refuse(http.StatusBadRequest, "getLogs: Namespace is not a valid namespace name")
	case !isUID(request.PodUID):
		return refuse(http.StatusBadRequest, "getLogs: PodUID is not a lower-case UUID")
	case request.ContainerName != "" && len(validation.IsDNS1123Label(request.ContainerName)) > 0:
		return refuse(http.StatusBadRequest, "getLogs: ContainerName is not a valid container name")
	case request.Opts.SinceSeconds != 0 && !request.Opts.SinceTime.IsZero():
		return refuse(http.StatusBadRequest, "getLogs: SinceSeconds and SinceTime cannot be used together")
	default:
		return nil
	}
}

func isUID(text string) bool {
	matched, err := regexp.MatchString(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, text)
	return err == nil && matched
}
