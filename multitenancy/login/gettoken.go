// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"encoding/json"
	"time"

	"github.com/cloudveneto/caas/multitenancy/login/clouds"
	"github.com/cloudveneto/caas/multitenancy/login/identity"
	"github.com/cloudveneto/caas/multitenancy/login/tokencache"
)

// execCredential is what client-go wants of a plugin: client.authentication.k8s.io, without its library.
type execCredential struct {
	APIVersion string     `json:"apiVersion"`
	Kind       string     `json:"kind"`
	Spec       execSpec   `json:"spec"`
	Status     execStatus `json:"status"`
}

type execSpec struct {
	Interactive bool         `json:"interactive"`
	Cluster     *execCluster `json:"cluster,omitempty"`
}

type execCluster struct {
	Server string `json:"server,omitempty"`
	// Config is the cluster's extension client.authentication.k8s.io/exec.
	Config *execConfig `json:"config,omitempty"`
}

// execConfig may be in a kubeconfig for users who have one from their site.
type execConfig struct {
	AuthURL    string `json:"authURL,omitempty"`
	AuthCAFile string `json:"authCAFile,omitempty"`
	Domain     string `json:"domain,omitempty"`
	Project    string `json:"project,omitempty"`
}

type execStatus struct {
	Token               string    `json:"token"`
	ExpirationTimestamp time.Time `json:"expirationTimestamp"`
}

const (
	execGroup = "client.authentication.k8s.io/"
	execInfo  = "KUBERNETES_EXEC_INFO"
)

// asked is what client-go says in the environment; without it, somebody else is asking.
func (a *App) asked() (execCredential, error) {
	asked := execCredential{APIVersion: execGroup + "v1", Kind: "ExecCredential"}
	text := a.get(execInfo)
	if text == "" {
		return asked, nil
	}
	if err := json.Unmarshal([]byte(text), &asked); err != nil {
		return asked, fail(CodeUsage, "%s is not JSON: %w", execInfo, err)
	}
	switch asked.APIVersion {
	case execGroup + "v1", execGroup + "v1beta1":
		return asked, nil
	default:
		return asked, fail(CodeUsage, "%s asks for %q; %sv1 and v1beta1 are known", execInfo, asked.APIVersion, execGroup)
	}
}

// getToken prints a token as client-go wants it.
func (a *App) getToken(ctx context.Context, o *options) error {
	asked, err := a.asked()
	if err != nil {
		return err
	}
	var token tokencache.Token
	if o.credential != "" {
		token, err = a.kept(ctx, o)
	} else {
		token, err = a.named(ctx, o, asked.Spec.Cluster)
	}
	if err != nil {
		return err
	}
	return a.answer(asked, token)
}

// answer prints the token with the time at which to ask for the next one.
func (a *App) answer(asked execCredential, token tokencache.Token) error {
	until := token.FreshUntil()
	if now := a.Now(); until.Before(now) {
		const soon = 10 * time.Second
		until = now.Add(min(soon, token.Expires.Sub(now)))
	}
	answer := struct {
		APIVersion string     `json:"apiVersion"`
		Kind       string     `json:"kind"`
		Status     execStatus `json:"status"`
	}{asked.APIVersion, "ExecCredential", execStatus{Token: token.Value, ExpirationTimestamp: until.UTC().Truncate(time.Second)}}
	return json.NewEncoder(a.Out).Encode(answer)
}

// named is a token of the credential that the environment, clouds.yaml and the flags name.
func (a *App) named(ctx context.Context, o *options, cluster *execCluster) (tokencache.Token, error) {
	site, err := a.site()
	if err != nil {
		return tokencache.Token{}, err
	}
	if cluster != nil && cluster.Config != nil {
		config := cluster.Config
		override(&site.AuthURL, config.AuthURL)
		override(&site.AuthCAFile, config.AuthCAFile)
		override(&site.Domain, config.Domain)
		if len(o.projects) == 0 && config.Project != "" {
			o.projects = list{config.Project}
		}
	}
	found, err := a.settings(&site, o)
	if err != nil {
		return tokencache.Token{}, err
	}
	if !found.Credential.Complete() {
		return tokencache.Token{}, fail(CodeCredentials,
			"there is nothing to log in with; name a cloud of clouds.yaml with OS_CLOUD, set OS_*, or run kubectl openstack -exec and use its entry")
	}
	client, err := a.keystone(site, o)
	if err != nil {
		return tokencache.Token{}, err
	}
	who, scope := found.Credential, found.Scope
	// A token says alone whose it is.
	key := tokencache.Key(client.URL(), string(who.Token), who.UserID, who.UserName, who.DomainID, who.DomainName,
		who.ApplicationCredentialID, who.ApplicationCredentialName, scope.ProjectID, scope.ProjectName, scope.DomainID, scope.DomainName)
	return a.cache(o).Get(ctx, key, a.Caller, source(client, who, scope))
}

func (a *App) cache(o *options) tokencache.Cache {
	return tokencache.Cache{Dir: a.cacheDir(), Now: a.Now, Logger: a.logger(o)}
}

// source makes tokens of a credential.
func source(client *identity.Client, who identity.Credential, scope identity.Scope) tokencache.Source {
	return tokencache.Source{
		Fetch: func(ctx context.Context) (tokencache.Token, error) {
			token, err := client.Login(ctx, who, scope)
			return cached(token), err
		},
		Valid: func(ctx context.Context, token tokencache.Token) (bool, error) {
			_, err := client.Inspect(ctx, identity.Secret(token.Value))
			if identity.Is(err, identity.Unauthorized) {
				return false, nil
			}
			return err == nil, err
		},
		Final: func(err error) bool { return codeOf(classified(err)) == CodeCredentials },
	}
}

func cached(token identity.Token) tokencache.Token {
	return tokencache.Token{Value: string(token.Value), Issued: token.Issued, Expires: token.Expires}
}

func override(target *string, value string) {
	if value != "" {
		*target = value
	}
}

// settings are how to log in: flags come first, then the cloud or the variables, then the site's files.
func (a *App) settings(site *Site, o *options) (clouds.Settings, error) {
	found, err := clouds.Load(a.Environment, o.cloud)
	if err != nil {
		return clouds.Settings{}, &ExitError{Code: CodeUsage, Err: err}
	}
	override(&site.CAFile, o.ca)
	override(&site.AuthURL, found.AuthURL)
	override(&site.AuthURL, o.authURL)
	if o.ca != "" {
		site.AuthCAFile = o.ca
	}
	override(&site.AuthCAFile, found.CAFile)
	override(&site.AuthCAFile, o.authCA)
	if site.AuthCAFile == "" {
		site.AuthCAFile = site.CAFile
	}
	a.flagsOver(&found, *site, o)
	return found, nil
}

func (a *App) flagsOver(found *clouds.Settings, site Site, o *options) {
	if o.user != "" || o.password != "" {
		found.Credential.ApplicationCredentialID, found.Credential.ApplicationCredentialName = "", ""
		found.Credential.Token = ""
	}
	if o.user != "" {
		// Somebody else than whom the environment names.
		if found.Credential.UserName != o.user {
			found.Credential.UserID = ""
		}
		found.Credential.UserName = o.user
	}
	if o.password != "" {
		found.Credential.Password = identity.Secret(o.password)
	}
	if o.passcode != "" {
		found.Credential.Passcode = identity.Secret(o.passcode)
	}
	if o.domain != "" {
		found.Credential.DomainID, found.Credential.DomainName = "", o.domain
		found.Scope.DomainID, found.Scope.DomainName = "", o.domain
	}
	if o.projectDomain != "" {
		found.Scope.DomainID, found.Scope.DomainName = "", o.projectDomain
	}
	if found.Credential.DomainID == "" && found.Credential.DomainName == "" {
		found.Credential.DomainName = site.Domain
	}
	if found.Scope.DomainID == "" && found.Scope.DomainName == "" {
		found.Scope.DomainName = site.Domain
	}
	if len(o.projects) == 1 {
		found.Scope.ProjectID, found.Scope.ProjectName = "", o.projects[0]
	}
}
