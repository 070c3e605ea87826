// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"github.com/google/uuid"

	"github.com/cloudveneto/caas/internal/interlink"
)

// ping answers /pinglink with the plugin's answer to an empty status request.
func (g *Gateway) ping(x *exchange) error {
	body, err := g.plugin.ping(x.r.Context(), x)
	if err != nil {
		return err
	}
	body, err = withExtensions(body)
	if err != nil {
		return err
	}
	contentType := contentText
	if json.Valid(body) {
		contentType = contentJSON
	}
	x.answer(contentType, body)
	return nil
}

// Ready says why no pod can be run now: the plugin does not answer its probe.
func (g *Gateway) Ready(ctx context.Context) error {
	_, err := g.plugin.ping(ctx, &exchange{session: "Request-" + uuid.NewString(), probe: true})
	return err
}

// withExtensions replaces what the plugin offers by what plugin and gateway can
// do together. An answer that offers nothing stays as it is.
func withExtensions(body []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil {
		return body, nil //nolint:nilerr // another form of answer, which is not ours to judge
	}
	// Only this gateway may say what works end to end, and Go's decoders do not
	// look at the case of a name.
	before := len(fields)
	maps.DeleteFunc(fields, func(name string, _ json.RawMessage) bool {
		return strings.EqualFold(name, "pluginExtensions") || strings.EqualFold(name, "extensions")
	})
	if len(fields) == before {
		return body, nil
	}
	if offered := offersOf(body); offered != nil {
		common, err := json.Marshal(usable(offered))
		if err != nil {
			return nil, fmt.Errorf("ping: encode extensions: %w", err)
		}
		fields["extensions"] = common
	}
	answer, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("ping: encode answer: %w", err)
	}
	return answer, nil
}

// offersOf is what a plugin's answer says it can do beyond upstream; nil for a
// plugin that says nothing, with a list or any text.
func offersOf(body []byte) []interlink.Extension {
	var answer struct {
		PluginExtensions []interlink.Extension `json:"pluginExtensions"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return nil
	}
	return answer.PluginExtensions
}
