// SPDX-License-Identifier: Apache-2.0

package claims

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
	"github.com/cloudveneto/caas/sidecar/plugin/watch"
)

const (
	// defaultPeriod is the time between two looks at the claims.
	defaultPeriod = 30 * time.Second
	// requestTimeout bounds one request.
	requestTimeout = 30 * time.Second
)

// Config says what a Keeper works with.
type Config struct {
	Client kubernetes.Interface
	Table  *table.Table
	// Namespaces are where claims can be; "" is all of them.
	Namespaces []string
	// Selector is added to every list, for clusters that demand one.
	Selector string
	// Origins are the clients whose claims these are; the zero value is all.
	Origins watch.Origins
	// Period is the time between two looks at the claims; default 30 s.
	Period time.Duration
}

// Keeper follows the claims that are to be deleted some time.
type Keeper struct {
	config  Config
	removed atomic.Int64

	mu     sync.Mutex
	claims map[types.UID]*corev1.PersistentVolumeClaim
}

// New returns a Keeper; Run starts it.
func New(config Config) (*Keeper, error) {
	if config.Client == nil || config.Table == nil || len(config.Namespaces) == 0 {
		return nil, errors.New("claims: client, table and namespaces are required")
	}
	if config.Period == 0 {
		config.Period = defaultPeriod
	}
	return &Keeper{config: config, claims: map[types.UID]*corev1.PersistentVolumeClaim{}}, nil
}

// Len is the number of claims that are to be deleted some time.
func (k *Keeper) Len() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.claims)
}

// Removed is how many claims were deleted.
func (k *Keeper) Removed() int64 { return k.removed.Load() }

// Run follows and deletes claims until ctx is done. Without the right to see them it
// does nothing.
func (k *Keeper) Run(ctx context.Context) error {
	if !k.allowed(ctx) {
		<-ctx.Done()
		return nil
	}
	var running sync.WaitGroup
	defer running.Wait()
	var synced []cache.InformerSynced
	for _, namespace := range k.config.Namespaces {
		hasSynced, err := k.follow(ctx, &running, namespace)
		if err != nil {
			return fmt.Errorf("watch claims in namespace %q: %w", namespace, err)
		}
		synced = append(synced, hasSynced)
	}
	if cache.WaitForCacheSync(ctx.Done(), synced...) {
		k.sweep(ctx)
	}
	return nil
}

// allowed tells whether the sidecar may see claims in all of its namespaces.
func (k *Keeper) allowed(ctx context.Context) bool {
	for _, namespace := range k.config.Namespaces {
		kind := watch.Kind{Resource: "persistentvolumeclaims", Namespace: namespace, Selector: k.config.Selector}
		if watch.Watchable(ctx, k.config.Client, kind) {
			continue
		}
		if ctx.Err() == nil {
			logging.From(ctx).WarnContext(ctx, "claims not visible, none is deleted when its last pod has gone", "namespace", namespace)
		}
		return false
	}
	return true
}

// sweep looks at the claims from time to time.
func (k *Keeper) sweep(ctx context.Context) {
	ticker := time.NewTicker(k.config.Period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := k.Sweep(ctx, time.Now()); err != nil && ctx.Err() == nil {
			logging.From(ctx).WarnContext(ctx, "claims without pods not all looked at", "error", err)
		}
	}
}

// follow keeps what a namespace has of claims that are to be deleted some time.
func (k *Keeper) follow(ctx context.Context, running *sync.WaitGroup, namespace string) (cache.InformerSynced, error) {
	informer := informers.NewSharedInformerFactoryWithOptions(k.config.Client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) {
			options.LabelSelector = k.selector(translate.LabelRetention + "=" + string(translate.RetentionDelete))
		})).Core().V1().PersistentVolumeClaims().Informer()
	if err := informer.SetTransform(trim); err != nil {
		return nil, err
	}
	err := informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, _ *cache.Reflector, err error) {
		if ctx.Err() == nil {
			logging.From(ctx).WarnContext(ctx, "watch interrupted", "error", err)
		}
	})
	if err != nil {
		return nil, err
	}
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: k.Observe, UpdateFunc: func(_, claim any) { k.Observe(claim) }, DeleteFunc: k.forget,
	})
	if err != nil {
		return nil, err
	}
	running.Go(func() { informer.RunWithContext(ctx) })
	return registration.HasSynced, nil
}

func (k *Keeper) selector(term string) string {
	selector := translate.LabelManagedBy + "=" + translate.ManagedBy + k.config.Origins.Ours() + "," + term
	if k.config.Selector != "" {
		selector += "," + k.config.Selector
	}
	return selector
}

// trim keeps of a claim what says whose it is and until when.
func trim(object any) (any, error) {
	claim, ok := object.(*corev1.PersistentVolumeClaim)
	if !ok {
		return object, nil
	}
	return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
		Name: claim.Name, Namespace: claim.Namespace, UID: claim.UID, ResourceVersion: claim.ResourceVersion,
		Labels: claim.Labels, Annotations: claim.Annotations, DeletionTimestamp: claim.DeletionTimestamp,
	}}, nil
}

// Observe takes in a claim as the cluster has it.
func (k *Keeper) Observe(object any) {
	claim, ok := object.(*corev1.PersistentVolumeClaim)
	if !ok {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.claims[claim.UID] = claim
}

func (k *Keeper) forget(object any) {
	if last, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = last.Obj
	}
	claim, ok := object.(*corev1.PersistentVolumeClaim)
	if !ok {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.claims, claim.UID)
}

// Sweep looks at every claim once. One that cannot be looked at does not stop the others.
func (k *Keeper) Sweep(ctx context.Context, now time.Time) error {
	k.mu.Lock()
	known := make([]*corev1.PersistentVolumeClaim, 0, len(k.claims))
	for _, claim := range k.claims {
		if claim.DeletionTimestamp == nil && claim.Labels[translate.LabelClaim] != "" {
			known = append(known, claim)
		}
	}
	k.mu.Unlock()
	if len(known) == 0 {
		return nil
	}
	used := k.used()
	var problems []error
	for _, claim := range known {
		if err := k.look(ctx, claim, used[place{claim.Namespace, claim.Name}], now); err != nil {
			problems = append(problems, fmt.Errorf("claim %s/%s: %w", claim.Namespace, claim.Name, err))
		}
	}
	return errors.Join(problems...)
}

// place is where a claim is.
type place struct{ namespace, name string }

// used are the claims of the pods that the table knows.
func (k *Keeper) used() map[place]bool {
	used := map[place]bool{}
	k.config.Table.Each(func(_ table.Key, pod *corev1.Pod) {
		for key, name := range pod.Labels {
			if strings.HasPrefix(key, translate.LabelClaimPrefix) {
				used[place{pod.Namespace, name}] = true
			}
		}
	})
	return used
}

// look does what is due for one claim.
func (k *Keeper) look(ctx context.Context, claim *corev1.PersistentVolumeClaim, used bool, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	since, marked := marking(claim)
	switch {
	case used && marked:
		return k.mark(ctx, claim, nil)
	case used:
		return nil
	case !marked:
		return k.mark(ctx, claim, new(now.UTC().Format(time.RFC3339Nano)))
	case now.Sub(since) < grace(claim):
		return nil
	}
	pods, err := k.config.Client.CoreV1().Pods(claim.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: k.selector(translate.LabelClaimPrefix + claim.Labels[translate.LabelClaim]), Limit: 1,
	})
	if err != nil {
		return fmt.Errorf("find its pods: %w", err)
	}
	if len(pods.Items) > 0 {
		return k.mark(ctx, claim, nil)
	}
	return k.remove(ctx, claim)
}

// marking is since when a claim is marked as unused. A mark that cannot be read is none.
func marking(claim *corev1.PersistentVolumeClaim) (since time.Time, marked bool) {
	since, err := time.Parse(time.RFC3339Nano, claim.Annotations[translate.AnnotationUnusedSince])
	return since, err == nil
}

// grace is how long a claim stays unused. What cannot be read keeps it for a day, in
// which somebody may notice.
func grace(claim *corev1.PersistentVolumeClaim) time.Duration {
	grace, err := time.ParseDuration(claim.Annotations[translate.AnnotationGrace])
	if err != nil || grace < 0 {
		return 24 * time.Hour
	}
	return grace
}

// mark writes since when a claim is unused, or that it is not.
func (k *Keeper) mark(ctx context.Context, claim *corev1.PersistentVolumeClaim, since *string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"uid": claim.UID, "resourceVersion": claim.ResourceVersion,
		"annotations": map[string]any{translate.AnnotationUnusedSince: since},
	}})
	if err != nil {
		return fmt.Errorf("encode mark: %w", err)
	}
	_, err = k.config.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).
		Patch(ctx, claim.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil && !settled(err) {
		return fmt.Errorf("mark: %w", err)
	}
	return nil
}

// remove deletes exactly this version of the claim.
func (k *Keeper) remove(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	err := k.config.Client.CoreV1().PersistentVolumeClaims(claim.Namespace).Delete(ctx, claim.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &claim.UID, ResourceVersion: &claim.ResourceVersion},
	})
	switch {
	case settled(err):
		return nil
	case err != nil:
		return fmt.Errorf("delete: %w", err)
	}
	k.removed.Add(1)
	logging.From(ctx).InfoContext(ctx, "claim deleted, no pod has used it for its grace time", "namespace", claim.Namespace, "claim", claim.Name,
		"originClaim", claim.Annotations[translate.AnnotationNamespace]+"/"+claim.Annotations[translate.AnnotationName])
	return nil
}

// settled tells that the claim has changed or gone meanwhile, so that another look is
// due and not this change.
func settled(err error) bool { return apierrors.IsConflict(err) || apierrors.IsNotFound(err) }
