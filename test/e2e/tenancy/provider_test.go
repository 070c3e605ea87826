// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package tenancy_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/openstack"
)

const (
	providerAddress = "10.88.0.1:9443"
	clientID        = "caas"
	clientSecret    = "secret-of-the-client"

	// Olga is a member of CMS, Otto of groups with names of Kubernetes' own.
	olga, otto = "olga", "otto"
)

// provider is an OpenID provider with people in groups, who log in to it by the flow for devices.
type provider struct {
	url    string
	client *http.Client
}

// directory are the provider's users. It knows them by their names.
type directory map[string]*storage.User

func (d directory) GetUserByID(id string) *storage.User         { return d[id] }
func (d directory) GetUserByUsername(name string) *storage.User { return d[name] }
func (directory) ExampleClientID() string                       { return clientID }

func passwordOf(user string) string { return "password-of-" + user }

// withGroups adds the groups to what a token says of a user.
type withGroups struct {
	*storage.Storage

	groups map[string][]string
}

// SetUserinfoFromRequest is called for ID tokens.
func (w withGroups) SetUserinfoFromRequest(ctx context.Context, info *oidc.UserInfo, token op.IDTokenRequest, scopes []string) error {
	if err := w.Storage.SetUserinfoFromRequest(ctx, info, token, scopes); err != nil {
		return err
	}
	info.PreferredUsername = token.GetSubject()
	info.AppendClaims("groups", w.groups[token.GetSubject()])
	return nil
}

// startProvider starts the provider on the LAN's gateway, and has kube-mt-authn believe it.
func (w *world) startProvider(ctx context.Context) error {
	ca, err := certificateFor(w.file("oidc"), "oidc", "10.88.0.1")
	if err != nil {
		return err
	}
	w.certificates.AppendCertsFromPEM(ca)
	w.provider = &provider{url: "https://" + providerAddress, client: w.client()}
	users := directory{}
	for _, name := range []string{olga, otto} {
		users[name] = &storage.User{ID: name, Username: name, Password: passwordOf(name)}
	}
	known := withGroups{
		storage.NewStorageWithClients(users, map[string]*storage.Client{clientID: storage.DeviceClient(clientID, clientSecret)}),
		map[string][]string{olga: {"cms", "physics"}, otto: {"system:masters", "osn:authenticated", "kubeadm:cluster-admins"}},
	}
	listener, err := network.Listen(ctx, w.lab.NetNS(), "tcp", providerAddress)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler:           exampleop.SetupServer(w.provider.url, known, slog.New(slog.DiscardHandler), false),
		ReadHeaderTimeout: 10 * time.Second,
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ServeTLS(listener, w.file("oidc.crt"), w.file("oidc.key"))
	}()
	w.closers = append(w.closers, func() { _ = server.Close(); <-done })
	return w.believeProvider(ctx)
}

// believeProvider writes the provider into kube-mt-authn's file and starts both of its processes anew, one by one.
func (w *world) believeProvider(ctx context.Context) error {
	project, err := w.keystone.Project(openstack.CMS)
	if err != nil {
		return err
	}
	path := filepath.Join(w.lab.Dir(), "mt", "authn.yaml")
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var settings map[string]any
	if err := yaml.Unmarshal(content, &settings); err != nil {
		return err
	}
	settings["oidc"] = []any{map[string]any{
		"issuer": w.provider.url, "caFile": w.file("oidc.ca"), "audiences": []string{clientID}, "groupsPrefix": "iam:",
		"userNameClaim": "preferred_username", "userNamePrefix": "iam:",
		"projects": []any{map[string]any{"group": "cms", "id": project.ID, "name": openstack.CMS}},
	}}
	if content, err = yaml.Marshal(settings); err != nil {
		return err
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return err
	}
	return w.restart(ctx, "kube-mt-authn-1", "kube-mt-authn-2")
}

// login is the flow for devices: the device asks for a code, the user types it into the provider's page and agrees, and the
// device gets the tokens.
func (p *provider) login(ctx context.Context, user string) (idToken string, err error) {
	var device struct {
		DeviceCode string `json:"device_code"`
		UserCode   string `json:"user_code"`
	}
	err = p.post(ctx, p.client, "/device_authorization", url.Values{"scope": {"openid"}}, &device)
	if err != nil {
		return "", err
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", err
	}
	browser := *p.client
	browser.Jar = jar
	form := url.Values{"user_code": {device.UserCode}, "username": {user}, "password": {passwordOf(user)}}
	if err := p.post(ctx, &browser, "/device/login", form, nil); err != nil {
		return "", err
	}
	if err := p.post(ctx, &browser, "/device/confirm", url.Values{"action": {"allowed"}}, nil); err != nil {
		return "", err
	}
	var tokens struct {
		IDToken string `json:"id_token"`
	}
	err = p.post(ctx, p.client, "/oauth/token", url.Values{
		"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {device.DeviceCode},
	}, &tokens)
	if err == nil && tokens.IDToken == "" {
		err = errors.New("the provider gave no ID token")
	}
	return tokens.IDToken, err
}

func (p *provider) post(ctx context.Context, client *http.Client, path string, form url.Values, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if into != nil {
		request.SetBasicAuth(clientID, clientSecret)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, response.Status, body)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}
