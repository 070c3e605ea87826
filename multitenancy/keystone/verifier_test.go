// SPDX-License-Identifier: Apache-2.0

package keystone_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/multitenancy/keystone"
	"github.com/cloudveneto/caas/multitenancy/keystone/keystonetest"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// clock is a time that a test moves.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

func verifier(tb testing.TB, server *keystonetest.Server, change func(*keystone.Config)) *keystone.Verifier {
	tb.Helper()
	cfg := keystone.Config{
		AuthURL: server.AuthURL(), Transport: server.Client().Transport, Metrics: prometheus.NewRegistry(),
		Limits: keystone.Limits{Timeout: 20 * time.Second},
	}
	if change != nil {
		change(&cfg)
	}
	v, err := keystone.New(cfg)
	require.NoError(tb, err)
	return v
}

func reason(err error) string {
	if refusal, refused := tenant.Refused(err); refused {
		return refusal.Reason
	}
	return ""
}

func TestVerify(t *testing.T) {
	t.Parallel()
	server := keystonetest.Start(t)
	token := keystonetest.Fernet()
	server.Add(token, keystonetest.Token())
	got, err := verifier(t, server, nil).Verify(t.Context(), token)
	require.NoError(t, err)
	assert.WithinDuration(t, time.Now().Add(time.Hour), got.Expires, time.Minute)
	got.Expires = time.Time{}
	assert.Equal(t, tenant.Login{
		Auth: "keystone", Name: "zangrand@infn.it", UID: "2ddd446e119b417791492e950553a055", Owner: "2ddd446e119b417791492e950553a055",
		DisplayName: "zangrand@infn.it", Domain: "Default", TokenID: "audit-1",
		Memberships: []tenant.Membership{{
			Project: tenant.Project{ID: "55158de200964f7c8aa5ca486e6cb7ea", Name: "CMS"}, Domain: "Default", Roles: []string{"member", "reader"},
		}},
	}, got)
	header := server.Requests()[0]
	assert.Equal(t, token, header.Get("X-Auth-Token"))
	assert.Equal(t, token, header.Get("X-Subject-Token"))
	assert.Empty(t, header.Values("Openstack-Identity-Access-Rules"))
	assert.Equal(t, []string{"nocatalog"}, server.Queries())
}

func TestVerifyNames(t *testing.T) {
	t.Parallel()
	server := keystonetest.Start(t)
	v := verifier(t, server, func(c *keystone.Config) { c.Rules.UserNamePrefix = "os:" })
	other := keystonetest.Token()
	other["user"] = keystonetest.Object{
		"id": strings.Repeat("ab", 32), "name": "bob", "domain": keystonetest.Object{"id": "d2", "name": "ldap"},
	}
	token := keystonetest.Fernet()
	server.Add(token, other)
	got, err := v.Verify(t.Context(), token)
	require.NoError(t, err)
	assert.Equal(t, "os:bob@ldap", got.Name)
	assert.Equal(t, strings.Repeat("ab", 32), got.UID)
	assert.Equal(t, tenant.EncodeID(got.UID), got.Owner)
	assert.Regexp(t, `^h-[a-z2-7]{52}$`, got.Owner)
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	at := func(after time.Duration) string { return time.Now().UTC().Add(after).Format(time.RFC3339) }
	for name, test := range map[string]struct {
		change func(token keystonetest.Object)
		rules  keystone.Rules
		want   string
	}{
		"no project":           {change: func(t keystonetest.Object) { delete(t, "project") }, want: keystone.ReasonScope},
		"domain":               {change: func(t keystonetest.Object) { t["domain"] = keystonetest.Object{"id": "d"} }, want: keystone.ReasonScope},
		"project is domain":    {change: func(t keystonetest.Object) { t["is_domain"] = true }, want: keystone.ReasonScope},
		"system":               {change: func(t keystonetest.Object) { t["system"] = keystonetest.Object{"all": true} }, want: keystone.ReasonScope},
		"trust":                {change: func(t keystonetest.Object) { t["OS-TRUST:trust"] = keystonetest.Object{"id": "x"} }, want: keystone.ReasonTrust},
		"ec2":                  {change: func(t keystonetest.Object) { t["methods"] = []string{"token", "ec2credential"} }, want: keystone.ReasonMethod},
		"oauth1":               {change: func(t keystonetest.Object) { t["methods"] = []string{"oauth1"} }, want: keystone.ReasonMethod},
		"oauth1 token":         {change: func(t keystonetest.Object) { t["OS-OAUTH1"] = keystonetest.Object{"access_token_id": "x"} }, want: keystone.ReasonMethod},
		"expired":              {change: func(t keystonetest.Object) { t["expires_at"] = at(-time.Second) }, want: keystone.ReasonExpired},
		"no end":               {change: func(t keystonetest.Object) { delete(t, "expires_at") }, want: keystone.ReasonExpired},
		"from the future":      {change: func(t keystonetest.Object) { t["issued_at"] = at(2 * time.Minute) }, want: keystone.ReasonClock},
		"no user":              {change: func(t keystonetest.Object) { delete(t, "user") }, want: keystone.ReasonContent},
		"no role":              {change: func(t keystonetest.Object) { delete(t, "roles") }, want: keystone.ReasonRole},
		"reader only":          {change: func(t keystonetest.Object) { t["roles"] = []keystonetest.Object{{"name": "reader"}} }, want: keystone.ReasonRole},
		"other required role":  {rules: keystone.Rules{Roles: []string{"caas"}}, want: keystone.ReasonRole},
		"project not enabled":  {rules: keystone.Rules{Projects: []string{"other"}}, want: keystone.ReasonProject},
		"user domain":          {rules: keystone.Rules{UserDomains: []string{"ldap"}}, want: keystone.ReasonDomain},
		"session is over":      {rules: keystone.Rules{MaxSession: 30 * time.Second}, want: keystone.ReasonSession},
		"domain by name":       {rules: keystone.Rules{UserDomains: []string{"Default"}}},
		"trust is allowed":     {change: func(t keystonetest.Object) { t["OS-TRUST:trust"] = keystonetest.Object{"id": "x"} }, rules: keystone.Rules{Trusts: true}},
		"application password": {change: func(t keystonetest.Object) { t["methods"] = []string{"application_credential"} }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := keystonetest.Start(t)
			description, token := keystonetest.Token(), keystonetest.Fernet()
			if test.change != nil {
				test.change(description)
			}
			server.Add(token, description)
			_, err := verifier(t, server, func(c *keystone.Config) {
				c.Rules = test.rules
				if test.rules.Trusts {
					c.Service = &keystone.Credential{UserName: "service", Project: "service", Password: func() (string, error) { return "secret", nil }}
				}
			}).Verify(t.Context(), token)
			assert.Equal(t, test.want, reason(err), "%v", err)
			if test.want == "" {
				require.NoError(t, err)
			}
		})
	}
}

func TestVerifyClassifiesAnswers(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		faults  []http.HandlerFunc
		service bool
		// want is the reason of a refusal, or empty for "cannot tell".
		want     string
		accepted bool
		requests int
	}{
		"unauthorized":               {faults: []http.HandlerFunc{keystonetest.Status(401)}, want: keystone.ReasonUnknown, requests: 1},
		"not found":                  {faults: []http.HandlerFunc{keystonetest.Status(404)}, want: keystone.ReasonUnknown, requests: 1},
		"forbidden":                  {faults: []http.HandlerFunc{keystonetest.Status(403)}, want: keystone.ReasonForbidden, requests: 1},
		"too many":                   {faults: []http.HandlerFunc{keystonetest.Status(429)}, requests: 1},
		"server error, then fine":    {faults: []http.HandlerFunc{keystonetest.Status(500)}, accepted: true, requests: 2},
		"server errors":              {faults: []http.HandlerFunc{keystonetest.Status(502), keystonetest.Status(503)}, requests: 2},
		"hangs, then fine":           {faults: []http.HandlerFunc{keystonetest.Hang}, accepted: true, requests: 2},
		"hangs":                      {faults: []http.HandlerFunc{keystonetest.Hang, keystonetest.Hang}, requests: 2},
		"redirection":                {faults: []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }}, requests: 1},
		"not JSON":                   {faults: []http.HandlerFunc{keystonetest.Text("<html>")}, requests: 1},
		"no token in it":             {faults: []http.HandlerFunc{keystonetest.Text("{}")}, requests: 1},
		"null":                       {faults: []http.HandlerFunc{keystonetest.Text(`{"token": null}`)}, requests: 1},
		"empty token":                {faults: []http.HandlerFunc{keystonetest.Text(`{"token": {}}`)}, want: keystone.ReasonContent, requests: 1},
		"endless":                    {faults: []http.HandlerFunc{keystonetest.Text(strings.Repeat(" ", 2<<20))}, requests: 1},
		"service user":               {service: true, accepted: true, requests: 1},
		"service user: unknown":      {service: true, faults: []http.HandlerFunc{keystonetest.Status(404)}, want: keystone.ReasonUnknown, requests: 1},
		"service user: new login":    {service: true, faults: []http.HandlerFunc{keystonetest.Status(401)}, accepted: true, requests: 2},
		"service user: not accepted": {service: true, faults: []http.HandlerFunc{keystonetest.Status(401), keystonetest.Status(401)}, requests: 2},
		"service user: forbidden":    {service: true, faults: []http.HandlerFunc{keystonetest.Status(403)}, requests: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := keystonetest.Start(t)
			token := keystonetest.Fernet()
			server.Add(token, keystonetest.Token())
			server.Fail(test.faults...)
			v := verifier(t, server, func(c *keystone.Config) {
				if strings.HasPrefix(name, "hangs") {
					c.Limits.Timeout = 5 * time.Second
				}
				if test.service {
					c.Service = &keystone.Credential{UserName: "service", Project: "service", Password: func() (string, error) { return "secret", nil }}
				}
			})
			_, err := v.Verify(t.Context(), token)
			assert.Equal(t, test.want, reason(err), "%v", err)
			assert.Equal(t, test.accepted, err == nil, "%v", err)
			assert.Len(t, server.Requests(), test.requests)
			if err != nil {
				assert.NotContains(t, err.Error(), token)
			}
		})
	}
}

// givenUp answers the first question when it is given up, with what there is of an answer, as a server does that is told of it.
type givenUp struct {
	http.RoundTripper
	body string
	done atomic.Bool
}

func (g *givenUp) RoundTrip(r *http.Request) (*http.Response, error) {
	if g.done.Swap(true) {
		return g.RoundTripper.RoundTrip(r)
	}
	reader, writer := io.Pipe()
	answer := &http.Response{StatusCode: http.StatusOK, Body: reader, Request: r}
	end := func() {
		<-r.Context().Done()
		_ = writer.Close()
	}
	if g.body == "" { // nothing is heard before
		end()
		return answer, nil
	}
	go func() {
		_, _ = io.WriteString(writer, g.body)
		end()
	}()
	return answer, nil
}

func TestVerifyAsksAgainAfterAnAnswerThatIsNone(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"late": "", "cut": `{"token": {`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := keystonetest.Start(t)
			token := keystonetest.Fernet()
			server.Add(token, keystonetest.Token())
			v := verifier(t, server, func(c *keystone.Config) {
				c.Transport, c.Limits.Timeout = &givenUp{RoundTripper: c.Transport, body: body}, 5*time.Second
			})
			_, err := v.Verify(t.Context(), token)
			require.NoError(t, err)
			assert.Len(t, server.Requests(), 1)
		})
	}
}

func TestServiceUserAsksWithItsOwnToken(t *testing.T) {
	t.Parallel()
	server := keystonetest.Start(t)
	var asked atomic.Int32
	v := verifier(t, server, func(c *keystone.Config) {
		c.Service = &keystone.Credential{UserName: "service", Project: "service", Password: func() (string, error) {
			asked.Add(1)
			return "secret", nil
		}}
		c.Limits.PositiveTTL = new(time.Duration(0))
	})
	token := keystonetest.Fernet()
	server.Add(token, keystonetest.Token())
	for range 3 {
		_, err := v.Verify(t.Context(), token)
		require.NoError(t, err)
	}
	assert.EqualValues(t, 1, asked.Load(), "one login is good for several questions")
	for _, header := range server.Requests() {
		assert.NotEqual(t, token, header.Get("X-Auth-Token"))
		assert.Equal(t, token, header.Get("X-Subject-Token"))
	}
	server.RevokeServices()
	_, err := v.Verify(t.Context(), token)
	require.NoError(t, err)
	assert.EqualValues(t, 2, asked.Load())
}

func TestServiceUserWithoutPassword(t *testing.T) {
	t.Parallel()
	server := keystonetest.Start(t)
	for name, password := range map[string]func() (string, error){
		"wrong":      func() (string, error) { return "x", nil },
		"unreadable": func() (string, error) { return "", errors.New("no such file") },
	} {
		v := verifier(t, server, func(c *keystone.Config) {
			c.Service = &keystone.Credential{UserName: "service", Project: "service", Password: password}
		})
		_, err := v.Verify(t.Context(), keystonetest.Fernet())
		require.Error(t, err, name)
		assert.Empty(t, reason(err), "%s: whoever asks is not to blame", name)
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	server := keystonetest.Start(t)
	var time clock
	v := verifier(t, server, func(c *keystone.Config) { c.Now = time.now; c.Limits.Entries = 2 })
	good, bad := keystonetest.Fernet(), keystonetest.Fernet()
	server.Add(good, keystonetest.Token())
	verify := func(token string, requests int, want string) {
		t.Helper()
		_, err := v.Verify(t.Context(), token)
		assert.Equal(t, want, reason(err))
		assert.Len(t, server.Requests(), requests)
	}
	verify(good, 1, "")
	verify(good, 1, "")
	verify(bad, 2, keystone.ReasonUnknown)
	verify(bad, 2, keystone.ReasonUnknown)
	server.Revoke(good)
	time.forward(59 * 1e9)
	verify(good, 2, "")
	verify(bad, 3, keystone.ReasonUnknown)
	time.forward(2 * 1e9)
	verify(good, 4, keystone.ReasonUnknown)

	server.Add(good, keystonetest.Token())
	v.Purge()
	verify(good, 5, "")
	verify(keystonetest.Fernet(), 6, keystone.ReasonUnknown)
	verify(keystonetest.Fernet(), 7, keystone.ReasonUnknown)
	verify(good, 8, "") // the least recently asked for has gone
}

func TestCacheEndsWithTheToken(t *testing.T) {
	t.Parallel()
	server := keystonetest.Start(t)
	var moved clock
	v := verifier(t, server, func(c *keystone.Config) { c.Now = moved.now })
	token, description := keystonetest.Fernet(), keystonetest.Token()
	description["expires_at"] = time.Now().Add(20 * time.Second).UTC().Format(time.RFC3339)
	server.Add(token, description)
	_, err := v.Verify(t.Context(), token)
	require.NoError(t, err)
	moved.forward(21 * time.Second)
	_, err = v.Verify(t.Context(), token)
	assert.Equal(t, keystone.ReasonExpired, reason(err))
}

// TestTimesWithoutZone: so Keystone says when a token ends with its application credential.
func TestTimesWithoutZone(t *testing.T) {
	t.Parallel()
	server := keystonetest.Start(t)
	v := verifier(t, server, nil)
	for want, after := range map[string]time.Duration{"": time.Minute, keystone.ReasonExpired: -time.Minute} {
		token, description := keystonetest.Fernet(), keystonetest.Token()
		description["expires_at"] = time.Now().Add(after).UTC().Format("2006-01-02T15:04:05.000000")
		server.Add(token, description)
		_, err := v.Verify(t.Context(), token)
		assert.Equal(t, want, reason(err), "%v", err)
	}
}

func TestSessionsOfRescopedTokens(t *testing.T) {
	t.Parallel()
	server := keystonetest.Start(t)
	var moved clock
	v := verifier(t, server, func(c *keystone.Config) { c.Now = moved.now; c.Rules.MaxSession = time.Hour })
	first, second := keystonetest.Fernet(), keystonetest.Fernet()
	server.Add(first, keystonetest.Token())
	_, err := v.Verify(t.Context(), first)
	require.NoError(t, err)

	moved.forward(2 * time.Hour)
	made := keystonetest.Token()
	made["audit_ids"] = []string{"audit-2", "audit-1"}
	made["issued_at"], made["expires_at"] = moved.now().UTC(), moved.now().Add(time.Hour).UTC()
	server.Add(second, made)
	_, err = v.Verify(t.Context(), second)
	assert.Equal(t, keystone.ReasonSession, reason(err))
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		cfg  keystone.Config
		want string
	}{
		"no TLS":      {keystone.Config{AuthURL: "http://keystone:5000/v3", Transport: http.DefaultTransport}, "without TLS"},
		"no URL":      {keystone.Config{Transport: http.DefaultTransport}, "authURL"},
		"query":       {keystone.Config{AuthURL: "https://keystone/v3?x", Transport: http.DefaultTransport}, "authURL"},
		"credentials": {keystone.Config{AuthURL: "https://a:b@keystone/v3", Transport: http.DefaultTransport}, "authURL"},
		"transport":   {keystone.Config{AuthURL: "https://keystone/v3"}, "transport"},
		"service":     {keystone.Config{AuthURL: "https://keystone/v3", Transport: http.DefaultTransport, Service: &keystone.Credential{}}, "service"},
		"long memory": {keystone.Config{
			AuthURL: "https://keystone/v3", Transport: http.DefaultTransport, Limits: keystone.Limits{PositiveTTL: new(time.Hour)},
		}, "revoked"},
		"trusts":   {keystone.Config{AuthURL: "https://keystone/v3", Transport: http.DefaultTransport, Rules: keystone.Rules{Trusts: true}}, "service user"},
		"negative": {keystone.Config{AuthURL: "https://keystone/v3", Transport: http.DefaultTransport, Limits: keystone.Limits{InFlight: -1}}, "negative"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := keystone.New(test.cfg)
			require.ErrorContains(t, err, test.want)
		})
	}
}

func BenchmarkVerifyRemembered(b *testing.B) {
	server := keystonetest.Start(b)
	token := keystonetest.Fernet()
	server.Add(token, keystonetest.Token())
	v := verifier(b, server, func(c *keystone.Config) { c.Limits.Timeout = 5 * time.Second })
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}
