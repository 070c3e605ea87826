// SPDX-License-Identifier: Apache-2.0

package virtualnode

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/cloudveneto/caas/internal/logging"
)

const (
	// heartbeat is how often the status is written when nothing changes; a
	// kubelet does the same. The lease says that the process lives.
	heartbeat = 5 * time.Minute
	// apiTimeout bounds one request to the API server.
	apiTimeout = 20 * time.Second
	// annotationTaints remembers which taints came from the far end, so that they
	// can be taken away after a restart.
	annotationTaints = "offload.infn.it/far-end-taints"
)

// syncLoop keeps the Node object up to date.
func (n *Node) syncLoop(ctx context.Context) {
	pause := time.Second
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
		case <-timer.C:
		}
		wait := heartbeat
		if err := n.sync(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			logging.From(ctx).Warn("node object is not up to date", "error", err, "retryIn", pause)
			wait, pause = pause, min(2*pause, 30*time.Second)
		} else {
			pause = time.Second
		}
		timer.Reset(wait)
	}
}

// sync registers the node if needed and writes what differs.
func (n *Node) sync(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*apiTimeout)
	defer cancel()
	server, err := n.ensure(ctx)
	if err != nil {
		return err
	}
	if server, err = n.syncStatus(ctx, server); err != nil {
		n.forget()
		return err
	}
	if err := n.syncMeta(ctx, server); err != nil {
		n.forget()
		return err
	}
	return nil
}

// forget makes the next sync read the object again; the lease goes on meanwhile.
func (n *Node) forget() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stale = true
}

func (n *Node) remember(server *corev1.Node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.server, n.stale = server, false
}

// ensure returns the Node object, and registers it when there is none.
func (n *Node) ensure(ctx context.Context) (*corev1.Node, error) {
	n.mu.Lock()
	server, stale := n.server, n.stale
	n.mu.Unlock()
	if server != nil && !stale {
		return server, nil
	}
	nodes := n.cfg.Client.CoreV1().Nodes()
	server, err := nodes.Get(ctx, n.cfg.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		server, err = nodes.Create(ctx, n.fresh(), metav1.CreateOptions{})
		if apierrors.IsForbidden(err) && n.withholdLabels(ctx, err) {
			server, err = nodes.Create(ctx, n.fresh(), metav1.CreateOptions{})
		}
		if err == nil {
			logging.From(ctx).Info("node registered", "node", n.cfg.Name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("register node %s: %w", n.cfg.Name, err)
	}
	n.remember(server)
	return server, nil
}

// syncStatus patches the status subresource.
func (n *Node) syncStatus(ctx context.Context, server *corev1.Node) (*corev1.Node, error) {
	wanted := server.DeepCopy()
	n.fillStatus(&wanted.Status, n.snapshot(), now())
	before, err := json.Marshal(server)
	if err != nil {
		return nil, fmt.Errorf("encode node: %w", err)
	}
	after, err := json.Marshal(wanted)
	if err != nil {
		return nil, fmt.Errorf("encode node: %w", err)
	}
	patch, err := strategicpatch.CreateTwoWayMergePatch(before, after, corev1.Node{})
	if err != nil {
		return nil, fmt.Errorf("compare node: %w", err)
	}
	if string(patch) == "{}" {
		return server, nil
	}
	written, err := n.cfg.Client.CoreV1().Nodes().
		Patch(ctx, n.cfg.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	if err != nil {
		return nil, fmt.Errorf("patch status of node %s: %w", n.cfg.Name, err)
	}
	n.remember(written)
	return written, nil
}

// syncMeta patches labels and taints. A node's identity may be forbidden to do
// so, which is said once and then lived with.
func (n *Node) syncMeta(ctx context.Context, server *corev1.Node) error {
	metadata, spec, notes := map[string]any{}, map[string]any{}, map[string]string{}
	labels, labelNote := n.wantedLabels(server)
	if len(labels) > 0 {
		metadata["labels"] = labels
	}
	if labelNote != server.Annotations[annotationLabels] {
		notes[annotationLabels] = labelNote
	}
	if taints, note, change := n.wantedTaints(server); change {
		spec["taints"] = taints
		notes[annotationTaints] = note
	}
	if len(notes) > 0 {
		metadata["annotations"] = notes
	}
	if len(metadata) == 0 && len(spec) == 0 {
		return nil
	}
	metadata["resourceVersion"] = server.ResourceVersion
	body := map[string]any{"metadata": metadata}
	if len(spec) > 0 {
		body["spec"] = spec
	}
	patch, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("encode node: %w", err)
	}
	written, err := n.cfg.Client.CoreV1().Nodes().Patch(ctx, n.cfg.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	switch {
	case apierrors.IsForbidden(err) && len(spec) > 0 && n.withholdTaints(ctx, err):
		return n.syncMeta(ctx, server)
	case apierrors.IsForbidden(err) && n.withholdLabels(ctx, err):
		return n.syncMeta(ctx, server)
	case apierrors.IsForbidden(err):
		return nil
	case err != nil:
		return fmt.Errorf("patch node %s: %w", n.cfg.Name, err)
	}
	n.remember(written)
	return nil
}

// wantedTaints adds the configured and the far end's taints to those of others,
// and takes away what the far end had set and dropped.
func (n *Node) wantedTaints(server *corev1.Node) (list []corev1.Taint, note string, change bool) {
	n.mu.Lock()
	told, forbidden := n.state.taints, n.taintsForbidden
	n.mu.Unlock()
	if forbidden {
		return nil, "", false
	}
	var earlier []string
	_ = json.Unmarshal([]byte(server.Annotations[annotationTaints]), &earlier) // nothing is remembered otherwise
	for _, taint := range server.Spec.Taints {
		if told == nil || !slices.Contains(earlier, taintID(taint)) {
			list = append(list, taint)
		}
	}
	for _, taint := range slices.Concat(n.cfg.Taints, told) {
		same := func(other corev1.Taint) bool { return taintID(other) == taintID(taint) }
		if at := slices.IndexFunc(list, same); at >= 0 {
			list[at].Value = taint.Value
		} else {
			list = append(list, taint)
		}
	}
	note = noteOf(told, server.Annotations[annotationTaints])
	return list, note, note != server.Annotations[annotationTaints] || !sameTaints(list, server.Spec.Taints)
}

// noteOf is what is remembered of the far end's taints.
func noteOf(told []corev1.Taint, before string) string {
	if told == nil || (len(told) == 0 && before == "") {
		return before
	}
	ids := []string{}
	for _, taint := range told {
		ids = append(ids, taintID(taint))
	}
	encoded, err := json.Marshal(ids)
	if err != nil {
		return before
	}
	return string(encoded)
}

func sameTaints(a, b []corev1.Taint) bool {
	return slices.EqualFunc(a, b, func(x, y corev1.Taint) bool { return taintID(x) == taintID(y) && x.Value == y.Value })
}

func taintID(taint corev1.Taint) string { return taint.Key + ":" + string(taint.Effect) }

// labels are the configured ones, or those that a node may give itself once more
// was forbidden.
func (n *Node) labels() map[string]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := map[string]string{}
	for key, value := range n.cfg.Labels {
		if !n.labelsForbidden || selfLabel(key) {
			list[key] = value
		}
	}
	return list
}

// selfLabel reports whether NodeRestriction lets a node set the label on itself.
func selfLabel(key string) bool {
	domain, _, ok := strings.Cut(key, "/")
	if !ok {
		return true
	}
	switch key {
	case corev1.LabelHostname, corev1.LabelOSStable, corev1.LabelArchStable, corev1.LabelTopologyZone,
		corev1.LabelTopologyRegion, corev1.LabelInstanceTypeStable:
		return true
	}
	under := func(parent string) bool { return domain == parent || strings.HasSuffix(domain, "."+parent) }
	if under("node.kubernetes.io") || under("kubelet.kubernetes.io") {
		return true
	}
	return !under("kubernetes.io") && !under("k8s.io")
}

// withholdLabels gives up the labels that a node may not set; false when they
// have been given up before.
func (n *Node) withholdLabels(ctx context.Context, err error) bool {
	n.mu.Lock()
	before := n.labelsForbidden
	n.labelsForbidden = true
	n.mu.Unlock()
	if !before {
		logging.From(ctx).Warn("labels that a node may not give itself are left out", "error", err)
	}
	return !before
}

func (n *Node) withholdTaints(ctx context.Context, err error) bool {
	n.mu.Lock()
	before := n.taintsForbidden
	n.taintsForbidden = true
	n.mu.Unlock()
	if !before {
		logging.From(ctx).Warn("taints cannot be changed with this identity", "error", err)
	}
	return !before
}
