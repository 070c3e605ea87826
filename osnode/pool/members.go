// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"context"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/node"
)

// Names of the cache's indexes of pods.
const (
	indexNode    = "osnode-pool/node"
	indexPending = "osnode-pool/pending"
	isPending    = "true"
)

// member is an OpenStackNode of a pool, with what else tells how it is.
type member struct {
	osn *osnodev1.OpenStackNode
	// node is nil while there is none.
	node *corev1.Node
	// pods is how many pods would be lost with it.
	pods int
	// outdated says that the pool's template or flavors have changed since, or its time is over;
	// expired is the latter.
	outdated, expired bool
}

// members are a pool's OpenStackNodes that stay, from the cache.
func (p *Pools) members(ctx context.Context, pool *osnodev1.OpenStackNodePool) ([]*member, error) {
	var list osnodev1.OpenStackNodeList
	err := p.Client.List(ctx, &list, client.InNamespace(pool.Namespace), client.MatchingLabels(selector(pool)))
	if err != nil {
		return nil, err
	}
	made, err := templateDigest(pool)
	if err != nil {
		return nil, err
	}
	var members []*member
	for i := range list.Items {
		osn := &list.Items[i]
		if !belongs(osn, pool) || !osn.DeletionTimestamp.IsZero() {
			continue
		}
		m := &member{osn: osn}
		if m.node, err = p.nodeOf(ctx, osn); err != nil {
			return nil, err
		}
		if m.node != nil {
			if m.pods, err = p.podsOn(ctx, m.node.Name); err != nil {
				return nil, err
			}
		}
		m.outdated, m.expired = p.outdated(pool, osn, made)
		members = append(members, m)
	}
	slices.SortFunc(members, func(a, b *member) int { return compareAge(a.osn, b.osn) })
	return members, nil
}

// outdated tells whether a node has to be replaced, made being the digest of the pool's
// template, and whether that is because its time is over.
func (p *Pools) outdated(pool *osnodev1.OpenStackNodePool, osn *osnodev1.OpenStackNode, made string) (outdated, expired bool) {
	ttl := pool.Spec.TTL
	expired = ttl != nil && ttl.Duration > 0 && p.Clock().Sub(osn.CreationTimestamp.Time) >= ttl.Duration
	outdated = expired || osn.Labels[labelTemplate] != made ||
		!slices.Contains(pool.Spec.Flavors, osn.Spec.Flavor) || p.imageChanged(pool, osn)
	return outdated, expired
}

// imageChanged tells that the provider's image is another one than when the node was made,
// where the pool leaves the image to the provider.
func (p *Pools) imageChanged(pool *osnodev1.OpenStackNodePool, osn *osnodev1.OpenStackNode) bool {
	if pool.Spec.Template.Image != nil || osn.Spec.Image == nil || osn.Spec.Image.Name == "" {
		return false
	}
	settings, err := p.Cloud.Settings(p.provider(pool))
	return err == nil && settings.ImageName != "" && settings.ImageName != osn.Spec.Image.Name
}

// nodeOf is an OpenStackNode's Node; nil if there is none.
func (p *Pools) nodeOf(ctx context.Context, osn *osnodev1.OpenStackNode) (*corev1.Node, error) {
	if osn.Status.NodeID == "" {
		return nil, nil
	}
	var object corev1.Node
	err := p.Client.Get(ctx, types.NamespacedName{Name: osn.Status.NodeID}, &object)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	case !node.BelongsTo(&object, osn):
		return nil, nil // somebody else's node of that name
	default:
		return &object, nil
	}
}

// podsOn counts the pods on a node that would be lost with it, by the cache.
func (p *Pools) podsOn(ctx context.Context, name string) (int, error) {
	var pods corev1.PodList
	if err := p.Client.List(ctx, &pods, client.MatchingFields{indexNode: name}, client.UnsafeDisableDeepCopy); err != nil {
		return 0, err
	}
	return countPods(pods.Items), nil
}

func countPods(pods []corev1.Pod) int {
	count := 0
	for i := range pods {
		if occupies(&pods[i]) && !staysBehind(&pods[i]) {
			count++
		}
	}
	return count
}

// occupies tells that a pod uses, or will use, what it asked for.
func occupies(pod *corev1.Pod) bool {
	return pod.Status.Phase != corev1.PodSucceeded && pod.Status.Phase != corev1.PodFailed
}

// staysBehind tells that a pod belongs to its node: a DaemonSet's, or a mirror of a static one.
func staysBehind(pod *corev1.Pod) bool {
	if _, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]; mirror {
		return true
	}
	owner := metav1.GetControllerOf(pod)
	return owner != nil && owner.Kind == "DaemonSet"
}

func (m *member) ready() bool { return m.node != nil && takesPods(m.node) }

// takesPods tells that a node has joined and is ready; that it is closed does not matter.
func takesPods(object *corev1.Node) bool {
	if node.Waiting(object) {
		return false
	}
	return readySince(object) != time.Time{}
}

// readySince is when a node became ready; zero if it is not.
func readySince(object *corev1.Node) time.Time {
	for _, condition := range object.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
			return condition.LastTransitionTime.Time
		}
	}
	return time.Time{}
}

// comes tells that a node is on its way: not ready for the first time, and not given up.
func comes(osn *osnodev1.OpenStackNode, timeout time.Duration, now time.Time) bool {
	switch osn.Status.Phase {
	case "", osnodev1.PhasePending:
		return true
	case osnodev1.PhaseCreating, osnodev1.PhaseJoining:
		return now.Sub(osn.CreationTimestamp.Time) < timeout
	case osnodev1.PhaseRunning, osnodev1.PhaseNotReady, osnodev1.PhaseStopped, osnodev1.PhaseFailed, osnodev1.PhaseDeleting:
		return false
	default:
		return false
	}
}

func (m *member) protected() bool {
	return m.osn.Annotations[osnodev1.AnnotationDoNotDisrupt] == "true"
}

func (m *member) hasServer() bool { return m.osn.Status.Server != nil && m.osn.Status.Server.ID != "" }

// blocked is why OpenStack does not give the machine; empty if nothing is known against it.
func (m *member) blocked() (reason, message string) {
	if m.hasServer() {
		return "", ""
	}
	for _, kind := range []string{osnodev1.ConditionQuotaAvailable, osnodev1.ConditionServerReady} {
		condition := meta.FindStatusCondition(m.osn.Status.Conditions, kind)
		if condition == nil || condition.Status != metav1.ConditionFalse {
			continue
		}
		if condition.Reason == osnodev1.ReasonQuotaExceeded || condition.Reason == osnodev1.ReasonNoValidHost {
			return condition.Reason, condition.Message
		}
	}
	return "", ""
}

// retiring is since when the pool has closed the node to pods; zero if it has not.
func (m *member) retiring() time.Time {
	if m.node == nil {
		return time.Time{}
	}
	since, err := time.Parse(time.RFC3339Nano, m.node.Annotations[annotationRetiring])
	if err != nil {
		return time.Time{} // absent, or somebody else's text: it is written anew
	}
	return since
}

func compareAge(a, b *osnodev1.OpenStackNode) int {
	if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
		return c
	}
	if a.Name < b.Name {
		return -1
	}
	return 1
}
