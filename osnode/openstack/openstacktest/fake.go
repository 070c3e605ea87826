// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Region is the fake's only region.
const Region = "regionOne"

// Options shape a Fake.
type Options struct {
	// Build is how long servers are BUILD, Deletion how long they stay after DELETE.
	Build, Deletion time.Duration
	// Now is the clock; default time.Now. Nothing happens in the fake but on a request, or
	// every few milliseconds if there are hooks.
	Now func() time.Time
	// TokenLife is how long tokens are valid; default one hour.
	TokenLife time.Duration
	// Host is the largest flavor that any host takes; 0 is no limit.
	Host struct{ VCPUs, MemoryMiB int }
	// Booted and Deleted, if not nil, are called when a server becomes ACTIVE, and when it
	// is gone. They may call the Fake.
	Booted, Deleted func(Instance)
	// Middleware, if not nil, is put in front of all services.
	Middleware func(http.Handler) http.Handler
}

// Fake is an OpenStack. All its methods may be called concurrently.
type Fake struct {
	options Options
	server  *httptest.Server
	end     context.CancelFunc
	ended   sync.WaitGroup

	mu       sync.Mutex
	users    map[string]*user
	projects map[string]*project
	roles    map[string]string
	tokens   map[string]*token
	trusts   map[string]*trust
	secrets  map[string]*applicationCredential
	servers  map[string]*instance
	building []*instance
	leaving  []*instance
	flavors  map[string]*flavor
	images   map[string]*image
	networks map[string]*network
	ports    map[string]*port
	groups   map[string]*group
	volumes  map[string]*volume
	breaks   func(Instance) *Fault
	keyPairs map[string]map[string]keyPair
	events   []func()
}

// Start starts a fake that has an administrator: user and password admin, project admin.
func Start(options Options) *Fake {
	if options.Now == nil {
		options.Now = time.Now
	}
	if options.TokenLife == 0 {
		options.TokenLife = time.Hour
	}
	f := &Fake{
		options: options, users: map[string]*user{}, projects: map[string]*project{}, roles: map[string]string{},
		tokens: map[string]*token{}, trusts: map[string]*trust{}, secrets: map[string]*applicationCredential{},
		servers: map[string]*instance{}, flavors: map[string]*flavor{}, images: map[string]*image{},
		networks: map[string]*network{}, ports: map[string]*port{}, groups: map[string]*group{},
		volumes: map[string]*volume{}, keyPairs: map[string]map[string]keyPair{},
	}
	for _, role := range []string{"admin", "member", "reader", "manager"} {
		f.roles[role] = newID()
	}
	f.Grant(f.AddUser("admin", "admin"), f.AddProject("admin"), "admin")
	mux := http.NewServeMux()
	f.identityRoutes(mux)
	f.trustRoutes(mux)
	f.directoryRoutes(mux)
	f.computeRoutes(mux)
	f.imageRoutes(mux)
	f.networkRoutes(mux)
	f.volumeRoutes(mux)
	handler := f.settled(mux)
	if options.Middleware != nil {
		handler = options.Middleware(handler)
	}
	f.server = httptest.NewServer(handler)
	ctx, end := context.WithCancel(context.Background())
	f.end = end
	if options.Booted != nil || options.Deleted != nil {
		f.ended.Go(func() { f.tick(ctx) })
	}
	return f
}

// Close stops the fake.
func (f *Fake) Close() {
	f.end()
	f.ended.Wait()
	f.server.Close()
}

// AuthURL is Keystone's address.
func (f *Fake) AuthURL() string { return f.server.URL + "/identity/v3" }

// tick lets time pass for the hooks.
func (f *Fake) tick(ctx context.Context) {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f.settle()
		}
	}
}

// settled lets what is due happen before each request. The handlers behind it hold the
// lock, so they must not wait for the client: it is read before, and answered after them.
func (f *Fake) settled(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		f.settle()
		answer := &recorder{header: http.Header{}, status: http.StatusOK}
		next.ServeHTTP(answer, r)
		remembered{status: answer.status, header: answer.header, body: answer.body.Bytes()}.send(w, new(Call))
	})
}

// settle ends builds and deletions that are due, and calls the hooks.
func (f *Fake) settle() {
	f.mu.Lock()
	at := f.options.Now()
	for len(f.building) > 0 && !f.building[0].due.After(at) {
		built := f.building[0]
		f.building = f.building[1:]
		if built.status == "BUILD" && !built.leaving {
			f.build(built)
		}
	}
	for len(f.leaving) > 0 && !f.leaving[0].gone.After(at) {
		f.remove(f.leaving[0])
		f.leaving = f.leaving[1:]
	}
	events := f.events
	f.events = nil
	f.mu.Unlock()
	for _, event := range events {
		event()
	}
}

// newID is an id in Keystone's form; Nova's has dashes.
func newID() string { return strings.ReplaceAll(uuid.NewString(), "-", "") }
