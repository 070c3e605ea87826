// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/cloudveneto/caas/internal/bench"
	"github.com/cloudveneto/caas/internal/lab/kube"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/openstack"
	"github.com/cloudveneto/caas/internal/lab/proc"
	"github.com/cloudveneto/caas/test/property/site"
)

const (
	keystoneAddress = "10.88.0.5"
	authnAddress    = "127.0.0.1:9641"
	authnOps        = "127.0.0.1:9642"
	authnNamespace  = "caas-bench-tenancy"
	authnReady      = time.Minute
	authnTick       = 50 * time.Millisecond
	atOnce          = 8
	hits            = 20 // of each token
	stopWait        = 10 * time.Second

	hitLimit  = 0.05 // ms
	missLimit = 1.0
)

// login is a real Keystone and kube-mt-authn beside it, in a network namespace.
type login struct {
	options *options
	dir     string
	site    *openstack.Site
	program *proc.Process
	// direct asks Keystone over TLS, as the program does.
	direct, webhook, ops *http.Client
}

func runAuthn(ctx context.Context, o *options, report *bench.Report) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("OpenStack's services need a network namespace, and that root")
	}
	if err := openstack.Missing(openstack.Identity); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "bench-authn-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	l := &login{options: o, dir: dir}
	defer func() { err = errors.Join(err, l.close(context.WithoutCancel(ctx))) }()
	if err := l.start(ctx); err != nil {
		return err
	}
	return l.measure(ctx, report)
}

func (l *login) path(name string) string { return filepath.Join(l.dir, name) }

func (l *login) start(ctx context.Context) error {
	if err := network.Create(ctx, network.Config{
		Name: authnNamespace, Extra: append(openstack.Gateways(), netip.MustParsePrefix(keystoneAddress+"/32")),
	}); err != nil {
		return err
	}
	if err := l.certificates(); err != nil {
		return err
	}
	namespace := network.Path(authnNamespace)
	var err error
	l.options.say("  Keystone starts\n")
	l.site, err = openstack.Start(ctx, openstack.Config{
		Dir: l.path("site"), NetNS: namespace, Driver: openstack.Identity, EndWithStarter: true,
		KeystoneTLS: &openstack.TLS{CertFile: l.path("keystone.crt"), KeyFile: l.path("keystone.key")},
	})
	if err != nil {
		return err
	}
	inside := func() *http.Transport { return &http.Transport{DialContext: network.Dialer(namespace)} }
	l.ops = &http.Client{Transport: inside(), Timeout: authnReady}
	l.direct, err = clientWith(l.path("client.crt"), l.path("client.key"), l.path("ca.crt"), inside())
	if err != nil {
		return err
	}
	l.webhook, err = clientWith(l.path("client.crt"), l.path("client.key"), l.path("ca.crt"), inside())
	if err != nil {
		return err
	}
	return l.startProgram(ctx, namespace)
}

func (l *login) certificates() error {
	ca, _, err := kube.NewCA("bench")
	if err != nil {
		return err
	}
	keystone, errKeystone := ca.Serving("keystone", keystoneAddress)
	serving, errServing := ca.Serving("kube-mt-authn", "127.0.0.1")
	client, errClient := ca.Client("kube-apiserver")
	if err := errors.Join(errKeystone, errServing, errClient); err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"ca.crt": ca.PEM, "keystone.crt": keystone.Cert, "keystone.key": keystone.Key, "authn.crt": serving.Cert, "authn.key": serving.Key,
		"client.crt": client.Cert, "client.key": client.Key,
	} {
		if err := os.WriteFile(l.path(name), content, 0o600); err != nil {
			return fmt.Errorf("write certificates: %w", err)
		}
	}
	return nil
}

func (l *login) startProgram(ctx context.Context, namespace string) error {
	config := fmt.Appendf(nil, `
listen: %s
tls: {certFile: %[2]s/authn.crt, keyFile: %[2]s/authn.key, clientCAFile: %[2]s/ca.crt}
keystone: {authURL: %[3]q, caFile: %[2]s/ca.crt}
`, authnAddress, l.dir, l.site.TLSAuthURL())
	if err := os.WriteFile(l.path("authn.yaml"), config, 0o600); err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	var err error
	l.program, err = proc.Start(ctx, l.dir, proc.Spec{
		Name: site.Authn, Path: filepath.Join(l.options.binDir, site.Authn), NetNS: namespace, EndWithStarter: true,
		Args: []string{"--config=" + l.path("authn.yaml"), "--ops-listen=" + authnOps},
	})
	if err != nil {
		return err
	}
	return site.Await(ctx, authnReady, authnTick, "kube-mt-authn", func() (bool, error) {
		_, err := scrape(ctx, l.ops, authnOps)
		return err == nil, nil
	})
}

func (l *login) close(ctx context.Context) error {
	var errs []error
	if l.program != nil {
		errs = append(errs, l.program.Stop(ctx, stopWait))
	}
	if l.site != nil {
		errs = append(errs, l.site.Stop(ctx))
	}
	return errors.Join(append(errs, network.Delete(ctx, authnNamespace), os.RemoveAll(l.dir))...)
}

func (l *login) measure(ctx context.Context, report *bench.Report) error {
	n := l.options.tokens
	l.options.say("  %d tokens are made\n", n)
	tokens, err := l.tokens(ctx, n)
	if err != nil {
		return err
	}
	// A warm-up for both: connections, and what Keystone remembers of users and projects.
	for _, token := range tokens[:4] {
		if err := errors.Join(l.ask(ctx, token), l.review(ctx, token)); err != nil {
			return err
		}
	}
	before, err := scrape(ctx, l.ops, authnOps)
	if err != nil {
		return err
	}
	half := tokens[4 : n/2]
	if err := l.misses(ctx, half, report); err != nil {
		return err
	}
	after, err := scrape(ctx, l.ops, authnOps)
	if err != nil {
		return err
	}
	within := after.Since(before)
	own := within.Sum("caas_authn_review_duration_seconds_sum", nil, nil) - within["caas_authn_keystone_duration_seconds_sum"]
	misses := within["caas_authn_keystone_duration_seconds_count"]
	report.AddTarget("authn: miss, the program's own time beside Keystone's: mean", 1000*own/misses, "ms", bench.Lower, missLimit)
	if err := l.hits(ctx, tokens[:4], report); err != nil {
		return err
	}
	return l.throughput(ctx, tokens[n/2:], report)
}

// misses asks Keystone about one token and the program about the next. Both know neither.
func (l *login) misses(ctx context.Context, tokens []string, report *bench.Report) error {
	var direct, miss times
	for i, token := range tokens {
		var err error
		if i%2 == 0 {
			err = direct.timed(func() error { return l.ask(ctx, token) })
		} else {
			err = miss.timed(func() error { return l.review(ctx, token) })
		}
		if err != nil {
			return err
		}
	}
	direct.add(report, "authn: Keystone asked directly")
	miss.add(report, "authn: miss")
	report.AddTarget("authn: miss, beyond Keystone asked directly: p50", miss.at(50)-direct.at(50), "ms", bench.Lower, missLimit)
	return nil
}

// hits asks again and again about tokens that the program knows.
func (l *login) hits(ctx context.Context, tokens []string, report *bench.Report) error {
	before, err := scrape(ctx, l.ops, authnOps)
	if err != nil {
		return err
	}
	var hit times
	for n := range hits * l.options.tokens {
		if err := hit.timed(func() error { return l.review(ctx, tokens[n%len(tokens)]) }); err != nil {
			return err
		}
	}
	after, err := scrape(ctx, l.ops, authnOps)
	if err != nil {
		return err
	}
	within := after.Since(before)
	const name = "caas_authn_review_duration_seconds"
	report.AddTarget("authn: hit: p50", 1000*within.Quantile(name, "", 0.5), "ms", bench.Lower, hitLimit)
	report.Add("authn: hit: p99", 1000*within.Quantile(name, "", 0.99), "ms", bench.Lower)
	hit.add(report, "authn: hit as its client sees it, with TLS and HTTP")
	return nil
}

// throughput is how many new tokens per second one Keystone lets in, beside how many it can tell about.
func (l *login) throughput(ctx context.Context, tokens []string, report *bench.Report) error {
	rate := func(tokens []string, ask func(context.Context, string) error) (float64, error) {
		group, groupCtx := errgroup.WithContext(ctx)
		group.SetLimit(atOnce)
		began := time.Now()
		for _, token := range tokens {
			group.Go(func() error { return ask(groupCtx, token) })
		}
		err := group.Wait()
		return float64(len(tokens)) / time.Since(began).Seconds(), err
	}
	direct, err := rate(tokens[:len(tokens)/2], l.ask)
	if err != nil {
		return err
	}
	through, err := rate(tokens[len(tokens)/2:], l.review)
	if err != nil {
		return err
	}
	report.Add(fmt.Sprintf("authn: tokens per second, %d at once, Keystone directly", atOnce), direct, "/s", bench.Higher)
	report.Add(fmt.Sprintf("authn: tokens per second, %d at once", atOnce), through, "/s", bench.Higher)
	return nil
}

// ask asks Keystone about a token as the program does: with the token itself.
func (l *login) ask(ctx context.Context, token string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.site.TLSAuthURL()+"/auth/tokens?nocatalog", http.NoBody)
	if err != nil {
		return err
	}
	request.Header.Set("X-Auth-Token", token)
	request.Header.Set("X-Subject-Token", token)
	_, err = send(l.direct, request)
	return err
}

func (l *login) review(ctx context.Context, token string) error {
	review := authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}
	review.APIVersion, review.Kind = "authentication.k8s.io/v1", "TokenReview"
	body, err := json.Marshal(review)
	if err != nil {
		return err
	}
	answer, err := post(ctx, l.webhook, "https://"+authnAddress+"/authenticate", body)
	if err == nil && !bytes.Contains(answer, []byte(`"authenticated":true`)) {
		err = fmt.Errorf("refused: %s", answer)
	}
	return err
}

type object = map[string]any

// tokens are of one login, each made of the first, which costs Keystone no password's hash.
func (l *login) tokens(ctx context.Context, n int) ([]string, error) {
	password, err := l.site.Password(openstack.InterLink)
	if err != nil {
		return nil, err
	}
	project, err := l.site.Project(openstack.CMS)
	if err != nil {
		return nil, err
	}
	scope := object{"project": object{"id": project.ID}}
	first, err := l.login(ctx, object{
		"methods":  []string{"password"},
		"password": object{"user": object{"name": openstack.InterLink, "domain": object{"id": "default"}, "password": password}},
	}, scope)
	if err != nil {
		return nil, err
	}
	tokens := make([]string, 0, n)
	for range n {
		next, err := l.login(ctx, object{"methods": []string{"token"}, "token": object{"id": first}}, scope)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, next)
	}
	return tokens, nil
}

func (l *login) login(ctx context.Context, identity, scope object) (string, error) {
	body, err := json.Marshal(object{"auth": object{"identity": identity, "scope": scope}})
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.site.TLSAuthURL()+"/auth/tokens", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := l.direct.Do(request)
	if err != nil {
		return "", err
	}
	if err := response.Body.Close(); err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("log in: %s", response.Status)
	}
	return response.Header.Get("X-Subject-Token"), nil
}
