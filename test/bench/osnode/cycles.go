// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cloudveneto/caas/internal/bench"
	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

const (
	// listLag is how long a new server may be missing from a list. It is shorter than the settle timer, as it has to be at a
	// site, also together with the longest answer.
	listLag     = time.Second
	slowAnswer  = 1500 * time.Millisecond
	settleTimer = "4s"
	// callTimeout is for half a request for a server: so long may one be under way when the controller is killed.
	callTimeout = "5s"

	// joinSuffix marks the nodes whose servers boot.
	joinSuffix = "-j"
	// earlyShare of the nodes are deleted within earlyWithin, whatever has become of them;
	// joinShare of them boot and join.
	earlyShare, joinShare = 0.3, 0.1
	earlyWithin           = 3 * time.Second
	cycleLimit            = 10 * time.Minute
	// outliveLimit is after how long a second server counts as one that stays.
	outliveLimit = 30 * time.Second
	leftLimit    = 3 * time.Minute
	cyclePoll    = 100 * time.Millisecond
)

type cyclesOptions struct {
	cycles, wave, waves, projects int
	seed                          uint64
	crash                         time.Duration
}

// cycleTimers are shorter than those of a site, in proportion to the stand-in's builds.
func cycleTimers() map[string]string {
	return map[string]string{
		"settle": settleTimer, "pollCreating": "1s", "pollSlow": "2s", "slowAfter": "20s", "pollRunning": "5s",
		"ageCreating": "500ms", "ageRunning": "2s", "retryFirst": "200ms", "retryMost": "5s", "quotaFirst": "1s", "quotaMost": "5s",
		"hostFirst": "500ms", "hostMost": "5s", "recheck": "2s", "authorization": "2s", "deleteAgain": "5s", "detach": "5s",
		"drain": "10s", "collect": "10s", "orphanAge": "15s", "emptyGrace": "20s",
	}
}

// cycling is the measurement of cycles.
type cycling struct {
	*world

	cloud      *cloud
	controller *controller
	seen       *watcher
	crashing   sync.Mutex // held while the controller is being killed and started
	outlived   atomic.Int64
	abandoned  atomic.Int64
}

func runCycles(ctx context.Context, o *options, report *bench.Report) (err error) {
	w, err := newWorld(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	faults := openstacktest.NewFaults(o.cycles.seed)
	c := &cycling{world: w}
	c.cloud, err = w.startCloud(ctx, cloudOptions{
		projects: o.cycles.projects, build: 300 * time.Millisecond, deletion: 200 * time.Millisecond, faults: faults,
		joins: func(booted openstacktest.Instance) bool { return strings.HasSuffix(booted.Name, joinSuffix) },
	})
	if err != nil {
		return err
	}
	defer c.cloud.close()
	if c.seen, err = w.watch(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.seen.close()) }()
	c.seen.left = func(gone sighting) { c.abandoned.Add(int64(c.cloud.ledger.count(string(gone.uid)))) }
	provider := c.cloud.provider()
	provider["timeout"] = callTimeout
	if c.controller, err = w.startController(ctx, settings{provider: provider, timers: cycleTimers()}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.controller.stop(ctx)) }()
	return c.measure(ctx, faults, report)
}

func (c *cycling) measure(ctx context.Context, faults *openstacktest.Faults, report *bench.Report) error {
	before, err := c.apiServer(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := c.trouble(ctx, faults, c.run); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := c.apiServer(ctx)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	left, err := c.leftovers(ctx)
	if err != nil {
		return err
	}
	n := float64(c.options.cycles.cycles)
	doubled, longest, agreed := c.cloud.ledger.doubles()
	name := fmt.Sprintf("%d faulted cycles", c.options.cycles.cycles)
	report.Add(name+", took", took.Seconds(), "s", bench.Lower)
	report.Add(name+", rate", n/took.Seconds(), "cycles/s", bench.Higher)
	report.Add(name+", crashes of the controller", float64(c.controller.crashes), "crashes", bench.Higher)
	report.Add(name+", servers that Nova agreed to per cycle", float64(agreed)/n, "servers", bench.Lower)
	report.Add(name+", OpenStack calls per cycle", float64(c.cloud.ledger.calls.Load())/n, "calls", bench.Lower)
	report.Add(name+", API requests per cycle", requests(after, before)/n, "requests", bench.Lower)
	c.options.breakdown("API requests", growth(after, before, "apiserver_request_total", "verb", "resource", "subresource"), n)
	report.Add(name+", nodes that had two servers at a time", float64(doubled), "nodes", bench.Lower)
	report.Add(name+", longest time with two servers", longest.Seconds(), "s", bench.Lower)
	report.AddTarget(name+", second servers that stayed", float64(c.outlived.Load()), "servers", bench.Lower, 0)
	report.Add(name+", servers left when their node was gone", float64(c.abandoned.Load()), "servers", bench.Lower)
	for _, kind := range []string{"servers, ports and volumes", "tokens", "Nodes", "certificate requests"} {
		report.AddTarget(name+", leaked "+kind, float64(left[kind]), "objects", bench.Lower, 0)
	}
	return nil
}

// trouble does something while things go wrong.
func (c *cycling) trouble(ctx context.Context, faults *openstacktest.Faults, do func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	var aside errgroup.Group
	c.inject(faults)
	c.cloud.ledger.crash = c.crashAfter(ctx)
	aside.Go(func() error { return c.crashes(ctx) })
	aside.Go(func() error { bursts(ctx, faults); return nil })
	err := do(ctx)
	stop()
	faults.Clear()
	err = errors.Join(err, aside.Wait())
	c.crashing.Lock() // a crash that a request has begun is over
	defer c.crashing.Unlock()
	return err
}

// inject adds the single faults. Their shares are of the requests of a kind.
func (c *cycling) inject(faults *openstacktest.Faults) {
	create := openstacktest.Match{Method: "POST", Path: "^" + serversPath + "$"}
	remove := openstacktest.Match{Method: "DELETE", Path: "^" + serversPath + "/"}
	read := openstacktest.Match{Method: "GET", Path: "^/(compute|network|image)/"}
	busy := &openstacktest.Answer{Status: 503, Body: `{"message": "busy"}`}
	for _, rule := range []openstacktest.Rule{
		{Match: create, Probability: 0.04, Cut: true, Forward: true},
		{Match: create, Probability: 0.04, Answer: busy, Forward: true},
		{Match: create, Probability: 0.02, Answer: busy},
		{Match: create, Probability: 0.02, Cut: true},
		{Match: create, Probability: 0.03, Delay: slowAnswer},
		{Match: remove, Probability: 0.03, Cut: true, Forward: true},
		{Match: remove, Probability: 0.03, Answer: busy},
		{Match: read, Probability: 0.01, Answer: busy},
		{Match: read, Probability: 0.01, Cut: true},
		{Match: read, Probability: 0.01, Delay: slowAnswer / 3},
	} {
		faults.Add(rule)
	}
	c.cloud.ledger.lag, c.cloud.ledger.lagShare = listLag, 0.1
	dice := rand.New(rand.NewPCG(c.options.cycles.seed, 1)) //nolint:gosec // repeatable chances
	c.cloud.fake.BreakBuilds(func(built openstacktest.Instance) *openstacktest.Fault {
		if dice.Float64() >= 0.03 {
			return nil
		}
		c.cloud.ledger.leave(built.ID)
		return &openstacktest.Fault{Code: 500, Message: "No valid host was found."}
	})
}

// bursts makes everything fail for moments: tokens are not accepted, or there are too many requests.
func bursts(ctx context.Context, faults *openstacktest.Faults) {
	for i := 0; ctx.Err() == nil; i++ {
		pause(ctx, 15*time.Second)
		rule := openstacktest.Rule{Match: openstacktest.Match{Path: "^/(compute|network|image)/"}, Times: 200}
		switch i % 3 {
		case 0:
			rule.Answer = &openstacktest.Answer{Status: 401, Body: `{"error": {"code": 401, "message": "The request you have made requires authentication."}}`}
		case 1:
			rule.Answer = &openstacktest.Answer{Status: 429, Header: map[string][]string{"Retry-After": {"1"}}, Body: "{}"}
		default:
			rule.Answer = &openstacktest.Answer{Status: 429, Body: "{}"}
		}
		done := faults.Add(rule)
		pause(ctx, time.Second)
		done()
	}
}

// crashes kills the controller at any time.
func (c *cycling) crashes(ctx context.Context) error {
	dice := rand.New(rand.NewPCG(c.options.cycles.seed, 2)) //nolint:gosec // repeatable chances
	for {
		pause(ctx, time.Duration(dice.ExpFloat64()*float64(c.options.cycles.crash)))
		if err := c.crash(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// crashAfter returns what kills the controller when Nova has agreed to something that it
// has not heard yet, as often as crashes does.
func (c *cycling) crashAfter(ctx context.Context) func() {
	dice := rand.New(rand.NewPCG(c.options.cycles.seed, 3)) //nolint:gosec // repeatable chances
	var mu sync.Mutex
	next := time.Now().Add(c.options.cycles.crash)
	return func() {
		mu.Lock()
		due := time.Now().After(next)
		if due {
			next = time.Now().Add(time.Duration(dice.ExpFloat64() * float64(c.options.cycles.crash)))
		}
		mu.Unlock()
		if due && ctx.Err() == nil {
			if err := c.crash(ctx); err != nil && ctx.Err() == nil {
				c.options.say("    %v\n", err)
			}
		}
	}
}

func (c *cycling) crash(ctx context.Context) error {
	c.crashing.Lock()
	defer c.crashing.Unlock()
	if ctx.Err() != nil {
		return nil
	}
	return c.controller.crash(ctx)
}

// run goes through all cycles, so many at a time.
func (c *cycling) run(ctx context.Context) error {
	var done atomic.Int64
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.options.cycles.wave * c.options.cycles.waves)
	for i := range c.options.cycles.cycles {
		group.Go(func() error {
			if err := c.cycle(ctx, i); err != nil {
				return fmt.Errorf("cycle %d: %w", i, err)
			}
			if n := done.Add(1); n%500 == 0 {
				c.options.say("    %d cycles after %s\n", n, time.Since(began).Round(time.Second))
			}
			return nil
		})
	}
	return group.Wait()
}

// cycle is the life of one node.
func (c *cycling) cycle(ctx context.Context, i int) error {
	dice := rand.New(rand.NewPCG(c.options.cycles.seed, uint64(i)+10)) //nolint:gosec // repeatable chances
	early, joins := dice.Float64() < earlyShare, dice.Float64() < joinShare
	name := fmt.Sprintf("c-%d", i)
	if joins {
		name += joinSuffix
	}
	t := c.cloud.tenants[i%len(c.cloud.tenants)]
	osn := t.node(name)
	key := client.ObjectKeyFromObject(osn)
	if err := t.client.Create(ctx, osn); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if early {
		pause(ctx, time.Duration(dice.Int64N(int64(earlyWithin))))
	} else if err := c.settle(ctx, key, joins); err != nil {
		return err
	}
	if err := t.client.Delete(ctx, osn); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if err := c.awaitOne(ctx, key, "to be gone", func(one sighting) bool { return !one.gone.IsZero() }); err != nil {
		return err
	}
	c.seen.forget(key)
	return nil
}

// settle waits until a node has its server, and no second one.
func (c *cycling) settle(ctx context.Context, key types.NamespacedName, joins bool) error {
	wanted := osnodev1.PhaseJoining
	if joins {
		wanted = osnodev1.PhaseRunning
	}
	if err := c.awaitOne(ctx, key, "to be "+string(wanted), func(one sighting) bool { return one.phase == wanted }); err != nil {
		return err
	}
	uid := string(c.seen.of(key).uid)
	err := await(ctx, outliveLimit, cyclePoll, "the second server to go", func() (bool, error) { return c.cloud.ledger.count(uid) <= 1, nil })
	if err == nil || ctx.Err() != nil {
		return err
	}
	c.outlived.Add(1)
	return nil // a second server that stays is a figure, and no reason to end
}

func (c *cycling) awaitOne(ctx context.Context, key types.NamespacedName, what string, is func(sighting) bool) error {
	err := await(ctx, cycleLimit, cyclePoll, key.String()+" "+what, func() (bool, error) { return is(c.seen.of(key)), nil })
	if err == nil || ctx.Err() != nil {
		return err
	}
	state := c.seen.of(key).object
	if state == nil {
		return fmt.Errorf("%w; nothing is known of it", err)
	}
	return fmt.Errorf("%w; it is %s: %s; %+v", err, state.Status.Phase, state.Status.Description, state.Status.Conditions)
}

// leftovers counts what is left when the controller has had time to collect it.
func (c *cycling) leftovers(ctx context.Context) (map[string]int, error) {
	var left map[string]int
	count := func() (bool, error) {
		var err error
		left, err = c.objects(ctx)
		if err != nil {
			return false, err
		}
		left["servers, ports and volumes"] = c.cloud.things()
		total := 0
		for _, n := range left {
			total += n
		}
		return total == 0, nil
	}
	err := await(ctx, leftLimit, time.Second, "everything to be collected", count)
	if left != nil && ctx.Err() == nil {
		return left, nil
	}
	return left, err
}

// objects counts what belongs to OpenStackNodes in the cluster.
func (w *world) objects(ctx context.Context) (map[string]int, error) {
	nodes := &corev1.NodeList{}
	requests := &certificatesv1.CertificateSigningRequestList{}
	tokens := &corev1.SecretList{}
	err := errors.Join(
		w.admin.List(ctx, nodes), w.admin.List(ctx, requests),
		w.admin.List(ctx, tokens, client.InNamespace(metav1.NamespaceSystem), client.HasLabels{"osn.infn.it/uid"}),
	)
	return map[string]int{"Nodes": len(nodes.Items), "certificate requests": len(requests.Items), "tokens": len(tokens.Items)}, err
}
