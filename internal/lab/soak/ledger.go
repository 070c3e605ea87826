// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/cloudveneto/caas/internal/lab/kwok"
)

// What the path is known by at the target.
const (
	managed        = "app.kubernetes.io/managed-by=interlink-sidecar"
	uidLabel       = "offload.infn.it/uid"
	nameAnnotation = "offload.infn.it/name"
	labelPrefix    = "labels.offload.infn.it/"
)

// maxLines bounds the history of a pod that a failure shows.
const maxLines = 80

// ledger records what happens to pods at both ends, by watches that nothing disturbs.
type ledger struct {
	began time.Time
	warn  func(string)
	ended []func()

	mu sync.Mutex
	// lives are the pods of the origin, by UID.
	lives   map[string]*life
	remarks []line
	wrongs  []string
}

// life is what is known of one pod of the origin.
type life struct {
	near, far bool
	phase     corev1.PodPhase
	lines     []line
	// remote are the UIDs of those that stood for it at the target.
	remote map[string]bool
}

type line struct {
	at   time.Duration
	text string
}

func newLedger(began time.Time, warn func(string)) *ledger {
	return &ledger{began: began, warn: warn, lives: map[string]*life{}}
}

// follow records from now on, until stop.
func (l *ledger) follow(ctx context.Context, w *world) error {
	for _, end := range []struct {
		client              kubernetes.Interface
		namespace, selector string
		note                func(*corev1.Pod, string)
	}{
		{w.origin, namespace, "", l.near},
		{w.caas, remoteNamespace, managed, l.far},
	} {
		if err := l.followOne(ctx, end.client, end.namespace, end.selector, end.note); err != nil {
			return err
		}
	}
	return nil
}

func (l *ledger) followOne(ctx context.Context, client kubernetes.Interface, namespace, selector string, note func(*corev1.Pod, string)) error {
	ctx, cancel := context.WithCancel(ctx)
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = selector }))
	with := func(event string) func(any) {
		return func(object any) {
			if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
				object = unknown.Obj
			}
			if pod, ok := object.(*corev1.Pod); ok {
				note(pod, event)
			}
		}
	}
	registration, err := factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: with(added), UpdateFunc: func(_, object any) { with(changed)(object) }, DeleteFunc: with(gone),
	})
	if err != nil {
		cancel()
		return fmt.Errorf("watch pods: %w", err)
	}
	factory.Start(ctx.Done())
	l.ended = append(l.ended, func() { cancel(); factory.Shutdown() })
	if !cache.WaitForCacheSync(ctx.Done(), registration.HasSynced) {
		return fmt.Errorf("watch pods: %w", context.Cause(ctx))
	}
	return nil
}

func (l *ledger) stop() {
	for _, end := range l.ended {
		end()
	}
}

// What a watch tells of a pod.
const (
	added   = "added"
	changed = "changed"
	gone    = "gone"
)

// near records what the origin shows.
func (l *ledger) near(pod *corev1.Pod, event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.life(string(pod.UID))
	l.write(one, "origin", pod, event)
	one.near = event != gone
	if wrong := misreported(one.phase, pod); wrong != "" && event != gone {
		text := fmt.Sprintf("pod %s (%s) at the origin %s", pod.Name, pod.UID, wrong)
		l.wrongs = append(l.wrongs, string(pod.UID)+" "+text)
		l.warn(text)
	}
	one.phase = pod.Status.Phase
}

// misreported says what is wrong with what the origin shows of a pod that was in a phase before.
func misreported(before corev1.PodPhase, pod *corev1.Pod) string {
	rank := map[corev1.PodPhase]int{"": 0, corev1.PodPending: 1, corev1.PodRunning: 2, corev1.PodSucceeded: 3, corev1.PodFailed: 3}
	now := pod.Status.Phase
	switch {
	case rank[now] < rank[before]:
		return fmt.Sprintf("was %s and is %s", before, now)
	case rank[before] == 3 && now != before:
		return fmt.Sprintf("ended as %s and then as %s", before, now)
	case pod.DeletionTimestamp != nil || rank[now] < 3:
		return "" // what a pod that somebody deletes ends as, is nobody's promise
	case now == corev1.PodFailed:
		return fmt.Sprintf("is said to have failed: %s %s", pod.Status.Reason, pod.Status.Message)
	case pod.Annotations[kwok.RunForAnnotation] == "":
		return "is said to have ended, and runs for ever"
	}
	return ""
}

// far records what the target shows.
func (l *ledger) far(pod *corev1.Pod, event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.life(pod.Labels[uidLabel])
	l.write(one, "target", pod, event)
	one.far = event != gone
	one.remote[string(pod.UID)] = true
}

func (l *ledger) life(uid string) *life {
	one := l.lives[uid]
	if one == nil {
		one = &life{remote: map[string]bool{}}
		l.lives[uid] = one
	}
	return one
}

func (l *ledger) write(one *life, end string, pod *corev1.Pod, event string) {
	text := fmt.Sprintf("%s %s %s/%s %s %s", end, event, pod.Namespace, pod.Name, pod.UID, describe(pod))
	one.lines = append(one.lines, line{l.now(), text})
	if len(one.lines) > maxLines {
		one.lines = slices.Delete(one.lines, 1, 2) // the beginning stays
	}
}

// describe says in one line how a pod is.
func describe(pod *corev1.Pod) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s ready=%s", pod.Status.Phase, ready(pod))
	if pod.Status.Reason != "" {
		fmt.Fprintf(&text, " (%s: %s)", pod.Status.Reason, pod.Status.Message)
	}
	for i := range pod.Status.ContainerStatuses {
		if waiting := pod.Status.ContainerStatuses[i].State.Waiting; waiting != nil {
			fmt.Fprintf(&text, " %s waits (%s: %s)", pod.Status.ContainerStatuses[i].Name, waiting.Reason, waiting.Message)
		}
	}
	if pod.DeletionTimestamp != nil {
		fmt.Fprintf(&text, " ending, finalizers %v", pod.Finalizers)
	}
	return text.String() + " v" + pod.ResourceVersion
}

func ready(pod *corev1.Pod) corev1.ConditionStatus {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady {
			return condition.Status
		}
	}
	return corev1.ConditionFalse
}

// remark records what happened to all.
func (l *ledger) remark(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remarks = append(l.remarks, line{l.now(), text})
}

func (l *ledger) now() time.Duration { return time.Since(l.began) }

// history is what happened to a pod, and around it meanwhile.
func (l *ledger) history(uid string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.lives[uid]
	if one == nil || len(one.lines) == 0 {
		return "    (no history)"
	}
	lines := slices.Clone(one.lines)
	from := one.lines[0].at - 2*time.Second
	for _, remark := range l.remarks {
		if remark.at >= from {
			lines = append(lines, remark)
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	var text strings.Builder
	for _, one := range lines[max(0, len(lines)-2*maxLines):] {
		fmt.Fprintf(&text, "    %9.3fs %s\n", one.at.Seconds(), one.text)
	}
	return text.String()
}

// wrong is what the origin was told wrongly, with histories.
func (l *ledger) wrong() []string {
	l.mu.Lock()
	wrongs := slices.Clone(l.wrongs)
	l.mu.Unlock()
	var problems []string
	for i, wrong := range wrongs {
		if i == maxShown {
			return append(problems, fmt.Sprintf("… and %d more", len(wrongs)-i))
		}
		uid, text, _ := strings.Cut(wrong, " ")
		problems = append(problems, text+"\n"+l.history(uid))
	}
	return problems
}

// twice names those of the origin's pods for which more than one ran.
func (l *ledger) twice(pods []corev1.Pod) []Difference {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []Difference
	for i := range pods {
		uid := string(pods[i].UID)
		if one := l.lives[uid]; one != nil && len(one.remote) > 1 {
			all = append(all, Difference{uid, fmt.Sprintf("pod %s was run %d times", pods[i].Name, len(one.remote))})
		}
	}
	return all
}

// count is how many pods each end has now.
func (l *ledger) count() (near, far int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range l.lives {
		if one.near {
			near++
		}
		if one.far {
			far++
		}
	}
	return near, far
}

// total is how many pods there were.
func (l *ledger) total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.lives)
}

// totalRemote is how many of them there were at the target.
func (l *ledger) totalRemote() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	total := 0
	for _, one := range l.lives {
		total += len(one.remote)
	}
	return total
}
