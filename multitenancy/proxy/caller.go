// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/sync/singleflight"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const pathReview = "/apis/authentication.k8s.io/v1/selfsubjectreviews"

// caller is who has a token, as the API server says. It is immutable.
type caller struct {
	user     tenant.User
	identity tenant.Identity
	// id is what the caller's objects are labelled with; empty for whoever is no tenant.
	id       string
	projects []tenant.Project
	// namespace is a ServiceAccount's.
	namespace string
	// unsure tells that it was not allowed to ask for whom a ServiceAccount acts. An authorizer that cannot tell yet refuses
	// as one does that never will.
	unsure bool
}

// unsureTTL is how long a caller is remembered of whom less is known than there may be.
const unsureTTL = time.Second

// lasts is how long at most what is known holds.
func (c *caller) lasts() time.Duration {
	if c.unsure {
		return unsureTTL
	}
	return math.MaxInt64
}

// callers finds out who has a token by asking with that token.
type callers struct {
	asker   asker
	policy  tenant.Policy
	metrics *metrics
	cache   *cache
	asking  singleflight.Group
	salt    []byte
}

func newCallers(ask asker, policy tenant.Policy, m *metrics, limits Limits) (*callers, error) {
	salt := make([]byte, sha256.Size)
	if _, err := rand.Read(salt); err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return &callers{asker: ask, policy: policy, metrics: m, cache: newCache(limits.Callers, limits.CallerTTL), salt: salt}, nil
}

// key is for looking a token up without keeping it.
func (c *callers) key(token string) key {
	sum := hmac.New(sha256.New, c.salt)
	_, _ = sum.Write([]byte(token)) // a hash's never fails
	return key(sum.Sum(nil))
}

// of tells who has a token. An error with an answer is the API server's: it does not know the token, for instance.
// Many requests that come at once ask once, and none of them ends it for the others.
func (c *callers) of(ctx context.Context, token string) (*caller, error) {
	at := c.key(token)
	if who := c.cache.find(at); who != nil {
		c.metrics.callers.WithLabelValues(callerKnown).Inc()
		return who, nil
	}
	asked := c.asking.DoChan(string(at[:]), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askTimeout)
		defer cancel()
		who, err := c.review(ctx, token)
		c.metrics.callers.WithLabelValues(callerResult(err)).Inc()
		if err == nil {
			c.cache.keep(at, who, who.lasts())
		}
		return who, err
	})
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case result := <-asked:
		who, _ := result.Val.(*caller)
		return who, result.Err
	}
}

func callerResult(err error) string {
	switch {
	case err == nil:
		return callerAsked
	case answered(err) == http.StatusUnauthorized:
		return callerRefused
	default:
		return callerFailed
	}
}

func (c *callers) review(ctx context.Context, token string) (*caller, error) {
	var review authenticationv1.SelfSubjectReview
	question := authenticationv1.SelfSubjectReview{
		TypeMeta: metav1.TypeMeta{APIVersion: authenticationv1.SchemeGroupVersion.String(), Kind: "SelfSubjectReview"},
	}
	if err := c.asker.ask(ctx, token, http.MethodPost, pathReview, question, &review); err != nil {
		return nil, err
	}
	info := review.Status.UserInfo
	who := &caller{user: tenant.User{Name: info.Username, UID: info.UID, Groups: info.Groups, Extra: make(map[string][]string, len(info.Extra))}}
	for name, values := range info.Extra {
		who.user.Extra[name] = values
	}
	who.identity = c.policy.Identity(who.user)
	if c.policy.Trusted(who.user) {
		return who, nil // writes for all tenants, and reads what RBAC lets it
	}
	switch who.identity.Kind {
	case tenant.Tenant:
		who.id, who.projects = who.identity.Owner, who.identity.Projects
	case tenant.ServiceAccount:
		return who, c.serviceAccount(ctx, token, who)
	case tenant.Node, tenant.ControlPlane, tenant.Admin, tenant.Stranger:
	}
	return who, nil
}

// serviceAccount finds out for whom a ServiceAccount acts: the owner of its object. One that may not read its own object
// or namespace is no tenant's robot.
func (c *callers) serviceAccount(ctx context.Context, token string, who *caller) error {
	who.namespace = who.identity.Namespace
	var account, namespace metav1.PartialObjectMetadata
	at := namespacePath(who.namespace)
	err := c.asker.ask(ctx, token, http.MethodGet, at+"/serviceaccounts/"+url.PathEscape(who.identity.ServiceAccount), nil, &account)
	if err == nil {
		err = c.asker.ask(ctx, token, http.MethodGet, at, nil, &namespace)
	}
	switch answered(err) {
	case http.StatusForbidden, http.StatusNotFound:
		who.unsure = true
		return nil
	}
	if err != nil {
		return err
	}
	if mine := tenant.NamespaceOf(namespace.Name, namespace.Labels); mine.Tenant && string(account.UID) == who.user.UID {
		who.id = tenant.OwnerOf(account.Labels).UserID
		who.projects = []tenant.Project{{ID: mine.ProjectID, Name: namespace.Labels[tenant.LabelProjectName]}}
	}
	return nil
}

func namespacePath(name string) string { return "/api/v1/namespaces/" + url.PathEscape(name) }

// Limits are how much the proxy remembers, and of whom.
type Limits struct {
	// CallerTTL is how long it remembers who has a token; 30 s when zero.
	CallerTTL time.Duration
	// Callers is of how many tokens; 10,000 when zero.
	Callers int
}

func (l *Limits) complete() {
	if l.CallerTTL <= 0 {
		l.CallerTTL = 30 * time.Second
	}
	if l.Callers <= 0 {
		l.Callers = 10000
	}
}
