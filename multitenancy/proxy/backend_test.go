// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/multitenancy/proxy"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const (
	alice   = "a11ce000000000000000000000000000"
	bob     = "b0b00000000000000000000000000000"
	project = "c0ffee00000000000000000000000000"
	other   = "0ddba11c0ffee0000000000000000000"
	space   = "cms"
)

func userOf(id, name string, project tenant.Project) tenant.User {
	user, err := tenant.Login{
		Auth: tenant.AuthKeystone, Name: name, UID: id, Owner: id, DisplayName: name,
		Memberships: []tenant.Membership{{Project: project, Roles: []string{"member"}}},
	}.User()
	if err != nil {
		return tenant.User{}
	}
	return user
}

// people are the users whose tokens are their names.
func people() map[string]tenant.User {
	cms := tenant.Project{ID: project, Name: "CMS"}
	return map[string]tenant.User{
		"alice": userOf(alice, "alice", cms), "bob": userOf(bob, "bob", cms),
		// Her project has the same name in another domain.
		"carol":    userOf("ca401000000000000000000000000000", "carol", tenant.Project{ID: other, Name: "cms"}),
		"admin":    {Name: "admin", Groups: []string{"system:masters", "system:authenticated"}},
		"operator": {Name: "system:serviceaccount:caas-system:osnode-controller", UID: "1", Groups: []string{"system:serviceaccounts"}},
		"robot":    {Name: "system:serviceaccount:cms:robot", UID: "robot-uid", Groups: []string{"system:serviceaccounts"}},
		"stale":    {Name: "system:serviceaccount:cms:robot", UID: "of-another", Groups: []string{"system:serviceaccounts"}},
		"site":     {Name: "system:serviceaccount:monitoring:prometheus", UID: "2", Groups: []string{"system:serviceaccounts"}},
	}
}

// backend is an API server as far as the proxy asks one, and keeps what else it was asked.
type backend struct {
	*httptest.Server

	reviews atomic.Int32
	// review, when set, answers instead.
	review atomic.Pointer[http.HandlerFunc]
	// answer answers what users ask.
	answer atomic.Pointer[http.HandlerFunc]
	// unready makes it refuse what the proxy itself asks.
	unready atomic.Bool

	mu   sync.Mutex
	last *http.Request
	body string
}

func newBackend(tb testing.TB) *backend {
	tb.Helper()
	b := &backend{}
	b.Server = httptest.NewUnstartedServer(b)
	b.EnableHTTP2 = true
	b.StartTLS()
	tb.Cleanup(b.Close)
	return b
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	user, known := people()[token]
	switch path := r.URL.Path; {
	case path == "/apis/authentication.k8s.io/v1/selfsubjectreviews":
		b.reviews.Add(1)
		if instead := b.review.Load(); instead != nil {
			(*instead)(w, r)
			return
		}
		if !known {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		writeReview(w, user)
	case r.Header.Get("User-Agent") == "kube-mt-proxy" && b.unready.Load():
		w.WriteHeader(http.StatusForbidden)
	case r.Header.Get("User-Agent") == "kube-mt-proxy" && path == "/api/v1/namespaces/cms":
		writeMeta(w, metav1.ObjectMeta{Name: "cms", Labels: map[string]string{tenant.LabelProjectID: project, tenant.LabelProjectName: "CMS"}})
	case r.Header.Get("User-Agent") == "kube-mt-proxy" && path == "/api/v1/namespaces/cms/serviceaccounts/robot":
		writeMeta(w, metav1.ObjectMeta{Name: "robot", UID: "robot-uid", Labels: tenant.Mark{UserID: alice}.Labels()})
	case r.Header.Get("User-Agent") == "kube-mt-proxy":
		w.WriteHeader(http.StatusForbidden)
	default:
		b.other(w, r)
	}
}

func (b *backend) other(w http.ResponseWriter, r *http.Request) {
	if answer := b.answer.Load(); answer != nil {
		(*answer)(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	b.last, b.body = r.Clone(r.Context()), string(body)
	b.mu.Unlock()
	_, _ = io.WriteString(w, "passed")
}

func (b *backend) seen() (*http.Request, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last, b.body
}

func (b *backend) setAnswer(answer http.HandlerFunc) { b.answer.Store(&answer) }

func writeReview(w http.ResponseWriter, user tenant.User) {
	extra := map[string]authenticationv1.ExtraValue{}
	for name, values := range user.Extra {
		extra[name] = values
	}
	//nolint:errchkjson // it goes to a client that may have gone
	_ = json.NewEncoder(w).Encode(authenticationv1.SelfSubjectReview{Status: authenticationv1.SelfSubjectReviewStatus{
		UserInfo: authenticationv1.UserInfo{Username: user.Name, UID: user.UID, Groups: user.Groups, Extra: extra},
	}})
}

func writeMeta(w http.ResponseWriter, meta metav1.ObjectMeta) {
	_ = json.NewEncoder(w).Encode(metav1.PartialObjectMetadata{ObjectMeta: meta}) //nolint:errchkjson // it goes to a client that may have gone
}

// front is a proxy that users reach.
type front struct {
	url      string
	client   *http.Client
	registry *prometheus.Registry
}

func newFront(tb testing.TB, b *backend, change ...func(*proxy.Config)) front {
	tb.Helper()
	target, err := url.Parse(b.URL)
	require.NoError(tb, err)
	transport := proxy.NewTransport(b.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs) //nolint:forcetypeassert // a test server's
	tb.Cleanup(transport.CloseIdleConnections)
	registry := prometheus.NewRegistry()
	config := proxy.Config{Server: target, Transport: transport, Policy: tenant.DefaultPolicy(), Metrics: registry}
	for _, one := range change {
		one(&config)
	}
	handler, err := proxy.New(config)
	require.NoError(tb, err)
	return serveFront(tb, handler, registry)
}
