// SPDX-License-Identifier: Apache-2.0

package property

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/multitenancy/tenant"
	"github.com/cloudveneto/caas/test/property/site"
)

const (
	requestTimeout = 30 * time.Second
	answerLimit    = 8 << 20
	conflicts      = 5
)

// answer is what the API server said.
type answer struct {
	code int
	body []byte
}

// outcome classifies the answer; ok is false for what no history should lead to.
func (a answer) outcome() (came outcome, ok bool) {
	switch a.code {
	case http.StatusOK, http.StatusCreated, http.StatusAccepted:
		return done, true
	case http.StatusForbidden:
		return denied, true
	case http.StatusNotFound:
		return absent, true
	case http.StatusConflict:
		return taken, true
	default:
		return "", false
	}
}

func (a answer) String() string {
	const enough = 400
	return fmt.Sprintf("%d %s", a.code, a.body[:min(len(a.body), enough)])
}

// seen is the part of an object that is judged.
type seen struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	// Details are those of a Status, which an API server answers a deletion with.
	Details *metav1.StatusDetails `json:"details"`
}

// object reads an answer that is one object.
func (a answer) object() (seen, error) {
	var one seen
	return one, json.Unmarshal(a.body, &one)
}

// objects reads an answer that is a list.
func (a answer) objects() ([]seen, error) {
	var list struct {
		Items []seen `json:"items"`
	}
	return list.Items, json.Unmarshal(a.body, &list)
}

// player sends requests as the users, and as an administrator.
type player struct {
	server  string
	clients map[string]*http.Client
}

const admin = ""

func newPlayer(s *site.Site) (*player, error) {
	p := &player{server: s.Server(), clients: map[string]*http.Client{}}
	configs := map[string]*rest.Config{admin: s.Admin()}
	for _, a := range actors() {
		configs[a.name] = s.As(a.name)
	}
	for name, config := range configs {
		config.Dial = dialer().DialContext // connections of their own: client-go shares those of equal configurations
		client, err := rest.HTTPClientFor(config)
		if err != nil {
			return nil, err
		}
		p.clients[name] = client
	}
	return p, nil
}

type call struct {
	method, path, contentType string
	query                     url.Values
	body                      object
}

func (p *player) send(ctx context.Context, as string, c call) (*http.Response, error) {
	var body io.Reader = http.NoBody
	if c.body != nil {
		encoded, err := json.Marshal(c.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, c.method, p.server+c.path+"?"+c.query.Encode(), body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if c.contentType != "" {
		request.Header.Set("Content-Type", c.contentType)
	}
	return p.clients[as].Do(request)
}

func (p *player) ask(ctx context.Context, as string, c call) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	response, err := p.send(ctx, as, c)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }() // read to its end below
	body, err := io.ReadAll(io.LimitReader(response.Body, answerLimit))
	return answer{code: response.StatusCode, body: body}, err
}

func collectionPath(resource schema.GroupVersionResource, namespace string) string {
	prefix := "/apis/" + resource.Group + "/" + resource.Version
	if resource.Group == "" {
		prefix = "/api/" + resource.Version
	}
	return prefix + "/namespaces/" + namespace + "/" + resource.Resource
}

func (s step) collection() string {
	return collectionPath(s.kind.GroupVersionResource, s.place.namespace)
}

func (s step) path() string { return s.collection() + "/" + s.place.name }

// play sends a step's request.
func (p *player) play(ctx context.Context, s step) (answer, error) {
	switch s.op {
	case opUpdate:
		return p.update(ctx, s)
	case opChild, opWatch:
		return answer{}, fmt.Errorf("%s is not one request", s.op)
	case opCreate, opApply, opGet, opPatch, opShare, opUnshare, opForge, opDelete, opDeleteCollection, opList:
	}
	return p.ask(ctx, s.actor.name, s.call())
}

func (s step) call() call {
	switch s.op {
	case opCreate:
		// Admission writes over what a user says of owners; a forged one is as good as none.
		labels := object{tenant.LabelUserID: s.other.id, tenant.LabelProjectName: "forged"}
		if s.share {
			labels = sharing(true, "")
		}
		return call{method: http.MethodPost, path: s.collection(), body: s.kind.body(s.place.name, s.value(), s.secret, labels)}
	case opApply:
		labels := object{}
		if s.share {
			labels = sharing(true, "")
		}
		return call{
			method: http.MethodPatch, path: s.path(), contentType: "application/apply-patch+yaml",
			query: url.Values{"fieldManager": {s.actor.name}, "force": {"true"}}, body: s.kind.body(s.place.name, s.value(), "", labels),
		}
	case opPatch:
		return s.patch(object{"annotations": object{valueKey: s.value()}})
	case opShare, opUnshare:
		return s.patch(object{"labels": sharing(s.op == opShare, s.actor.id)})
	case opForge:
		return s.patch(object{"annotations": object{valueKey: s.value()}, "labels": object{
			tenant.LabelUserID: s.other.id, tenant.LabelUserName: nil, tenant.LabelProjectID: "forged",
		}})
	case opDelete:
		return call{method: http.MethodDelete, path: s.path()}
	case opDeleteCollection:
		return call{method: http.MethodDelete, path: s.collection(), query: s.query()}
	case opList, opWatch:
		return call{method: http.MethodGet, path: s.collection(), query: s.query()}
	case opGet, opUpdate, opChild:
	}
	return call{method: http.MethodGet, path: s.path()}
}

func (s step) patch(metadata object) call {
	return call{method: http.MethodPatch, path: s.path(), contentType: "application/merge-patch+json", body: object{"metadata": metadata}}
}

func (s step) query() url.Values {
	me, other, both := s.actor.id, s.other.id, " in ("+s.actor.id+","
	selector := map[selection]string{
		selectMine:        tenant.LabelUserID + "=" + me,
		selectMineByName:  tenant.LabelUserID + "=" + me,
		selectUnshared:    tenant.LabelVisibleTo + "=" + me,
		selectVisible:     tenant.LabelVisibleTo + both + tenant.VisibleToProject + ")",
		selectOther:       tenant.LabelUserID + "=" + other,
		selectBoth:        tenant.LabelUserID + both + other + ")",
		selectOwned:       tenant.LabelUserID,
		selectOthers:      tenant.LabelUserID + "!=" + me,
		selectVisibleToIt: tenant.LabelVisibleTo + "=" + other,
		selectShared:      tenant.LabelVisibleTo + "=" + tenant.VisibleToProject,
	}[s.selection]
	query := url.Values{}
	if selector != "" {
		query.Set("labelSelector", selector)
	}
	if s.selection == selectMineByName {
		query.Set("fieldSelector", "metadata.name="+s.place.name)
	}
	return query
}

// update replaces an object by what it is with another value. The administrator reads it for the user, who may not.
func (p *player) update(ctx context.Context, s step) (answer, error) {
	for range conflicts {
		now, err := p.ask(ctx, admin, call{method: http.MethodGet, path: s.path()})
		if err != nil {
			return answer{}, err
		}
		body := s.kind.body(s.place.name, s.value(), "", nil)
		if now.code == http.StatusOK {
			if body, err = withValue(now.body, s.value()); err != nil {
				return answer{}, err
			}
		}
		came, err := p.ask(ctx, s.actor.name, call{method: http.MethodPut, path: s.path(), body: body})
		// Controllers write, too.
		if err != nil || came.code != http.StatusConflict {
			return came, err
		}
	}
	return answer{}, fmt.Errorf("%s was changed by others %s times", s.place, strconv.Itoa(conflicts))
}

func withValue(content []byte, value string) (object, error) {
	var body object
	if err := json.Unmarshal(content, &body); err != nil {
		return nil, err
	}
	metadata, ok := body["metadata"].(object)
	if !ok {
		return nil, fmt.Errorf("no metadata in %s", strings.TrimSpace(string(content)))
	}
	annotations, _ := metadata["annotations"].(object)
	if annotations == nil {
		annotations = object{}
	}
	annotations[valueKey] = value
	metadata["annotations"] = annotations
	return body, nil
}
