// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/cloudveneto/caas/internal/interlink"
	"github.com/cloudveneto/caas/internal/logging"
)

// create answers /create. Once the plugin has been asked, the request is
// finished even if the caller leaves, so that nothing is left half done.
func (g *Gateway) create(x *exchange) error {
	body, release, err := g.body(x)
	if err != nil {
		return err
	}
	defer release()
	var request createRequest
	if err := json.Unmarshal(body, &request); err != nil {
		return refuse(http.StatusBadRequest, "create: request body is not valid: %s", describe(err))
	}
	pod, err := request.distribute()
	if err != nil {
		return err
	}
	ctx := x.r.Context()
	if err := g.addJobScript(ctx, x, &pod, request.JobScriptURL); err != nil {
		return err
	}
	message, err := g.createMessage(pod)
	if err != nil {
		return err
	}
	answer, err := g.plugin.call(context.WithoutCancel(ctx), x, message, maxAnswer)
	if err != nil {
		return err
	}
	logging.From(ctx).InfoContext(ctx, "pod created", "pod", request.view.Metadata)
	x.answer(contentJSON, answer)
	return nil
}

func (g *Gateway) createMessage(pod pluginPod) (message, error) {
	var form any = pod
	if g.cfg.CreateForm == CreateArray {
		form = []pluginPod{pod}
	}
	body, err := json.Marshal(form)
	if err != nil {
		return message{}, fmt.Errorf("create: encode plugin request: %w", err)
	}
	return message{
		method: http.MethodPost, path: interlink.PathCreate, body: body,
		repeatable: slices.Contains(g.plugin.lastOffer().extensions, interlink.ExtensionIdempotent),
	}, nil
}

// addJobScript fetches a job script when the request names a builder. The URL
// comes from outside and gets the pod's secrets, so only configured ones are asked.
func (g *Gateway) addJobScript(ctx context.Context, x *exchange, pod *pluginPod, url string) error {
	if url == "" {
		return nil
	}
	if !slices.Contains(g.cfg.JobScriptURLs, url) {
		return refuse(http.StatusBadRequest, "create: jobscriptURL %.200q is not one that this API server allows (JobScriptURLs)", url)
	}
	pod.JobConfig = *g.cfg.JobConfig
	body, err := json.Marshal(pod)
	if err != nil {
		return fmt.Errorf("create: encode job script request: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Limits.PluginTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("create: job script request: %w", err)
	}
	request.Header.Set("Content-Type", contentJSON)
	request.Header.Set(interlink.HeaderSession, x.session)
	answer, err := g.cfg.JobScriptClient.Do(request)
	if err != nil {
		logging.From(ctx).WarnContext(ctx, "job script builder gave no answer", "error", err)
		return refuse(http.StatusInternalServerError, "create: the job script builder cannot be reached")
	}
	defer func() { _ = answer.Body.Close() }()
	script, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil || answer.StatusCode != http.StatusOK {
		return refuse(http.StatusInternalServerError, "create: the job script builder answered %d", answer.StatusCode)
	}
	pod.JobScript = string(script)
	return nil
}

// describe says what is wrong with a JSON text without repeating any of it.
func describe(err error) string {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax) && syntax.Offset == 0:
		return "no valid JSON, the body is empty"
	case errors.As(err, &syntax):
		return fmt.Sprintf("JSON syntax error at byte %d", syntax.Offset)
	case errors.As(err, &kind):
		return fmt.Sprintf("field %q must not be a JSON %s", kind.Field, kind.Value)
	default:
		return "no valid JSON"
	}
}
