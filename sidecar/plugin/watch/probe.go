// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	// probeLife is how long an answer of the target cluster counts as recent.
	probeLife = 5 * time.Second
	// failureLife is how long a failure counts: a virtual node that was given up asks
	// every second, and one request that came too late must not cost it more.
	failureLife = 500 * time.Millisecond
	// reviewLife is how long a confirmed right counts where the namespace can be read:
	// rights change seldom, and losing them shows at the next create.
	reviewLife = time.Minute
	// probeTimeout bounds one check.
	probeTimeout = 4 * time.Second
)

// Probe tells whether the target cluster can be used now. Many callers share one
// check, and its answer for a few seconds.
type Probe struct {
	client     kubernetes.Interface
	namespaces []string
	group      singleflight.Group
	// reviewed is when the right to create was last confirmed; only check uses it.
	reviewed time.Time

	mu   sync.Mutex
	last verdict
}

// verdict is the outcome of one check.
type verdict struct {
	at  time.Time
	err error
}

func (v verdict) recent() bool {
	life := probeLife
	if v.err != nil {
		life = failureLife
	}
	return !v.at.IsZero() && time.Since(v.at) < life
}

// NewProbe returns a Probe for creating pods in namespaces.
func NewProbe(client kubernetes.Interface, namespaces []string) *Probe {
	return &Probe{client: client, namespaces: namespaces}
}

// Usable returns nil when the target cluster answers and lets the sidecar create
// pods, otherwise why not.
func (p *Probe) Usable(ctx context.Context) error {
	if last := p.known(); last.recent() {
		return last.err
	}
	result := p.group.DoChan("", func() (any, error) {
		if last := p.known(); last.recent() {
			return nil, last.err // another check has ended since
		}
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
		defer cancel()
		err := p.check(detached)
		p.mu.Lock()
		p.last = verdict{at: time.Now(), err: err}
		p.mu.Unlock()
		return nil, err
	})
	select {
	case r := <-result:
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Probe) known() verdict {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

// check asks for each namespace; it never runs twice at once. One that can be used is
// enough: pods of the others are told by themselves why they wait.
func (p *Probe) check(ctx context.Context) error {
	review := time.Since(p.reviewed) >= reviewLife
	var problems []error
	for _, namespace := range p.namespaces {
		if err := p.usable(ctx, namespace, review); err != nil {
			problems = append(problems, err)
		}
	}
	if len(problems) > 0 && len(problems) == len(p.namespaces) {
		p.reviewed = time.Time{}
		return problems[0]
	}
	if review {
		p.reviewed = time.Now()
	}
	return nil
}

// usable asks for one namespace.
func (p *Probe) usable(ctx context.Context, namespace string, review bool) error {
	answered, err := p.namespace(ctx, namespace)
	if err != nil || answered && !review {
		return err
	}
	allowed, err := may(ctx, p.client, authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "create", Resource: "pods"})
	if err != nil {
		return explain(err)
	}
	if !allowed {
		return fmt.Errorf("the sidecar may not create pods in namespace %q of the target cluster", namespace)
	}
	return nil
}

// namespace reads the namespace, which asks the target cluster's storage too. Not
// being allowed to is no fault, but answers nothing.
func (p *Probe) namespace(ctx context.Context, name string) (answered bool, err error) {
	if name == metav1.NamespaceAll {
		return false, nil
	}
	namespace, err := p.client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsForbidden(err):
		return false, nil
	case apierrors.IsNotFound(err):
		return true, fmt.Errorf("the target cluster has no namespace %q", name)
	case err != nil:
		return false, explain(err)
	case namespace.Status.Phase == corev1.NamespaceTerminating:
		return true, fmt.Errorf("namespace %q of the target cluster is being terminated", name)
	}
	return true, nil
}

// explain turns a transport error, which names hosts and addresses, into a sentence.
func explain(err error) error {
	switch {
	case apierrors.IsUnauthorized(err):
		return errors.New("the target cluster does not accept the sidecar's credentials")
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("the target cluster does not answer")
	case apierrors.ReasonForError(err) != metav1.StatusReasonUnknown:
		return fmt.Errorf("the target cluster answers %s", apierrors.ReasonForError(err))
	}
	return errors.New("the target cluster cannot be reached")
}
