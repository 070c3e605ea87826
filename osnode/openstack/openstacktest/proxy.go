// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// ProxyConfig is what a Proxy needs.
type ProxyConfig struct {
	// Upstream is Keystone's address.
	Upstream string
	// Address is where to listen; default a free port of 127.0.0.1.
	Address string
	// Faults are the troubles; required. Paths begin with /u/ and a number for each
	// upstream host, in the order in which they were met, Keystone first.
	Faults *Faults
	// Transport reaches the services; default http.DefaultTransport.
	Transport http.RoundTripper
}

// Proxy is in front of a whole OpenStack: in the catalogs that it hands out, all
// services are behind it too.
type Proxy struct {
	server    *httptest.Server
	keystone  string
	transport http.RoundTripper

	mu      sync.Mutex
	bases   []string
	proxies []*httputil.ReverseProxy
}

// StartProxy starts a proxy.
func StartProxy(ctx context.Context, config ProxyConfig) (*Proxy, error) {
	upstream, err := url.Parse(config.Upstream)
	if err != nil || upstream.Host == "" {
		return nil, fmt.Errorf("upstream %q is no address", config.Upstream)
	}
	if config.Address == "" {
		config.Address = "127.0.0.1:0"
	}
	if config.Transport == nil {
		config.Transport = http.DefaultTransport
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", config.Address)
	if err != nil {
		return nil, fmt.Errorf("listen for OpenStack proxy: %w", err)
	}
	p := &Proxy{keystone: strings.TrimSuffix(upstream.Path, "/"), transport: config.Transport}
	p.server = httptest.NewUnstartedServer(config.Faults.Wrap(http.HandlerFunc(p.route)))
	_ = p.server.Listener.Close() // the one that it made itself
	p.server.Listener = listener
	p.server.Start()
	p.add(upstream)
	return p, nil
}

// Close stops the proxy.
func (p *Proxy) Close() { p.server.Close() }

// AuthURL is Keystone's address behind the proxy.
func (p *Proxy) AuthURL() string { return p.server.URL + "/u/0" + p.keystone }

// add makes an address's host one of the upstreams.
func (p *Proxy) add(address *url.URL) {
	base := address.Scheme + "://" + address.Host
	p.mu.Lock()
	defer p.mu.Unlock()
	if slices.Contains(p.bases, base) {
		return
	}
	to := &url.URL{Scheme: address.Scheme, Host: address.Host}
	p.bases = append(p.bases, base)
	p.proxies = append(p.proxies, &httputil.ReverseProxy{
		Transport: p.transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Header.Del("Accept-Encoding") // bodies have to be readable here
		},
		ModifyResponse: p.rewrite,
	})
}

var upstreamPath = regexp.MustCompile(`^/u/(\d+)(/.*)?$`)

func (p *Proxy) route(w http.ResponseWriter, r *http.Request) {
	parts := upstreamPath.FindStringSubmatch(r.URL.Path)
	if parts == nil {
		http.NotFound(w, r)
		return
	}
	n, err := strconv.Atoi(parts[1])
	p.mu.Lock()
	if err != nil || n >= len(p.proxies) {
		p.mu.Unlock()
		http.NotFound(w, r)
		return
	}
	proxy := p.proxies[n]
	p.mu.Unlock()
	http.StripPrefix("/u/"+parts[1], proxy).ServeHTTP(w, r)
}

// rewrite puts the proxy's address in place of the services' own.
func (p *Proxy) rewrite(answer *http.Response) error {
	if location := answer.Header.Get("Location"); location != "" {
		answer.Header.Set("Location", p.replace(location+"\"", true))
	}
	if !strings.Contains(answer.Header.Get("Content-Type"), "json") {
		return nil
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	_ = answer.Body.Close() // it has been read
	p.learn(body)
	text := p.replace(string(body), false)
	answer.Body = io.NopCloser(bytes.NewReader([]byte(text)))
	answer.ContentLength = int64(len(text))
	answer.Header.Set("Content-Length", strconv.Itoa(len(text)))
	return nil
}

// learn takes the services' hosts from a catalog.
func (p *Proxy) learn(body []byte) {
	type entries []struct {
		Endpoints []struct {
			URL string `json:"url"`
		} `json:"endpoints"`
	}
	var found struct {
		Token struct {
			Catalog entries `json:"catalog"`
		} `json:"token"`
		Catalog entries `json:"catalog"`
	}
	if json.Unmarshal(body, &found) != nil {
		return
	}
	for _, entry := range append(found.Token.Catalog, found.Catalog...) {
		for _, endpoint := range entry.Endpoints {
			if address, err := url.Parse(endpoint.URL); err == nil && address.Host != "" {
				p.add(address)
			}
		}
	}
}

// replace writes the proxy's address for each upstream's; an address ends at a slash
// or a quote.
func (p *Proxy) replace(text string, quoted bool) string {
	p.mu.Lock()
	bases := append([]string(nil), p.bases...)
	p.mu.Unlock()
	for i, base := range bases {
		own := p.server.URL + "/u/" + strconv.Itoa(i)
		text = strings.ReplaceAll(text, base+"/", own+"/")
		text = strings.ReplaceAll(text, base+"\"", own+"\"")
	}
	if quoted {
		text = strings.TrimSuffix(text, "\"")
	}
	return text
}
