// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

// Exists says whether Keystone has a project with that id. Only a service user who may read projects can ask; an error
// means that it cannot be told.
func (v *Verifier) Exists(ctx context.Context, projectID string) (bool, error) {
	if v.service == nil {
		return false, errors.New("keystone: no service user is configured, who could ask for projects")
	}
	ctx, cancel := context.WithTimeout(ctx, v.cfg.Limits.Timeout)
	defer cancel()
	asker, err := v.service.token(ctx)
	if err != nil {
		return false, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, v.cfg.AuthURL+"/projects/"+url.PathEscape(projectID), http.NoBody)
	if err != nil {
		return false, fmt.Errorf("ask keystone for a project: %w", err)
	}
	request.Header.Set(headerAuth, asker)
	request.Header.Set("Accept", "application/json")
	answer, err := v.client.Do(request)
	if err != nil {
		return false, fmt.Errorf("ask keystone for a project: %w", err)
	}
	defer func() { _ = answer.Body.Close() }() // not read
	switch answer.StatusCode {
	case http.StatusOK:
		return true, nil
	case http.StatusNotFound:
		return false, nil
	case http.StatusUnauthorized:
		v.service.forget()
	}
	return false, fmt.Errorf("ask keystone for a project: status %d", answer.StatusCode)
}
