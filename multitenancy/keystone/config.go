// SPDX-License-Identifier: Apache-2.0

package keystone

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Config says which Keystone is asked, how, and what is accepted of it.
type Config struct {
	// AuthURL is Keystone's address with its version, such as https://keystone:5000/v3.
	AuthURL string
	// InsecureHTTP allows an AuthURL without TLS, over which everybody can read tokens.
	InsecureHTTP bool
	// Transport reaches Keystone. Required, with the site's certificate authority.
	Transport http.RoundTripper
	// Service, when not nil, is who asks about tokens, for sites whose policy does not let
	// tokens be asked about with themselves.
	Service *Credential

	Rules  Rules
	Limits Limits

	// Metrics, when not nil, registers what is counted.
	Metrics prometheus.Registerer
	// Now is the time; time.Now when nil.
	Now func() time.Time
}

// Credential is the platform's own user, who needs a role that may validate tokens.
type Credential struct {
	UserName, UserDomain, Project, ProjectDomain string
	// Password is asked at each login, so that a changed file counts.
	Password func() (string, error)
}

// Rules say whose tokens are accepted.
type Rules struct {
	// Roles are those of which a token must have one; member when there are none.
	Roles []string
	// Projects are the ids of the projects that may use the platform; all when there are none.
	Projects []string
	// UserDomains are ids or names of the domains whose users are accepted; all when there are none.
	UserDomains []string
	// Trusts accepts tokens that somebody has by a user's trust.
	Trusts bool
	// DefaultDomain is the id of the domain whose users' names stand without it.
	DefaultDomain string
	// UserNamePrefix begins the names of users in Kubernetes.
	UserNamePrefix string
	// MaxSession limits how long after a first login tokens are accepted that are made from
	// it. It counts from the first that this process saw. Zero is no limit.
	MaxSession time.Duration
}

// Limits bound time, memory and what Keystone has to bear.
type Limits struct {
	// Timeout is that of one try; 2 s when zero. There are two.
	Timeout time.Duration
	// InFlight is how many questions there are at a time; 64 when zero.
	InFlight int
	// Rate is how many questions there are per second, after a burst of twice as many; 200 when zero.
	Rate float64
	// PositiveTTL and NegativeTTL are how long answers are remembered; 60 s and 10 s when
	// nil. The first is how long a revoked token can still be good.
	PositiveTTL, NegativeTTL *time.Duration
	// Entries is how many answers are remembered; 10,000 when zero.
	Entries int
	// BreakAfter questions without an answer in a row, none is asked for BreakFor; 5 and 5 s when zero.
	BreakAfter int
	BreakFor   time.Duration
}

func (c *Config) complete() error {
	problems := []error{c.completeURL()}
	if c.Transport == nil {
		problems = append(problems, errors.New("a transport is required"))
	}
	if len(c.Rules.Roles) == 0 {
		c.Rules.Roles = []string{"member"}
	}
	setDefault(&c.Rules.DefaultDomain, "default")
	if c.Now == nil {
		c.Now = time.Now
	}
	if s := c.Service; s != nil && (s.UserName == "" || s.Project == "" || s.Password == nil) {
		problems = append(problems, errors.New("service: user name, project and password are required"))
	}
	if c.Rules.Trusts && c.Service == nil {
		problems = append(problems, errors.New("tokens of trusts cannot be asked about with themselves: a service user is required"))
	}
	problems = append(problems, c.Limits.complete())
	return errors.Join(problems...)
}

func (c *Config) completeURL() error {
	address, err := url.Parse(c.AuthURL)
	if err != nil || address.Host == "" || address.RawQuery != "" || address.Fragment != "" || address.User != nil {
		return fmt.Errorf("authURL %q is not https://HOST[:PORT][/PATH]/v3", c.AuthURL)
	}
	if address.Scheme != "https" && (address.Scheme != "http" || !c.InsecureHTTP) {
		return fmt.Errorf("authURL %q is without TLS, so that tokens could be read on the way", c.AuthURL)
	}
	c.AuthURL = strings.TrimSuffix(strings.TrimRight(c.AuthURL, "/"), "/v3") + "/v3"
	return nil
}

func (l *Limits) complete() error {
	setDefault(&l.Timeout, 2*time.Second)
	setDefault(&l.InFlight, 64)
	setDefault(&l.Rate, 200)
	setDefault(&l.PositiveTTL, new(time.Minute))
	setDefault(&l.NegativeTTL, new(10*time.Second))
	setDefault(&l.Entries, 10_000)
	setDefault(&l.BreakAfter, 5)
	setDefault(&l.BreakFor, 5*time.Second)
	if l.Timeout < 0 || l.InFlight < 0 || l.Rate < 0 || *l.PositiveTTL < 0 || *l.NegativeTTL < 0 || l.Entries < 0 || l.BreakAfter < 0 || l.BreakFor < 0 {
		return errors.New("limits must not be negative")
	}
	if *l.PositiveTTL > 10*time.Minute {
		return fmt.Errorf("positive answers cannot be remembered for %s: a revoked token would be good for as long; at most 10m", *l.PositiveTTL)
	}
	return nil
}

func setDefault[T comparable](value *T, unset T) {
	var zero T
	if *value == zero {
		*value = unset
	}
}
