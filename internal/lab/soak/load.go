// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/lab/offload"
)

const (
	// maxBare, maxDeployments and maxJobs are how many there are at once. Names are used again.
	maxBare, maxDeployments, maxJobs = 40, 3, 3
	maxReplicas                      = 8
	// An operation comes every opLeast to opMost.
	opLeast, opMost = 50 * time.Millisecond, 500 * time.Millisecond
	opTimeout       = time.Minute
)

// load creates, changes and deletes at the origin.
type load struct {
	origin *kubernetes.Clientset
	random *rand.Rand
	// pods, deployments and jobs are the names of what there should be.
	pods, deployments, jobs []string
	turn                    int

	mu     sync.Mutex
	counts map[string]int
}

func newLoad(w *world, seed uint64) *load {
	return &load{origin: w.origin, random: dice(seed, streamLoad), counts: map[string]int{}}
}

// operation is one kind of what the load does, in as many of all as its weight says.
type operation struct {
	name   string
	weight int
	do     func(context.Context) error
}

func (l *load) operations() []operation {
	return []operation{
		{"create a pod", 30, l.createPod},
		{"delete a pod", 12, func(ctx context.Context) error { return l.deletePod(ctx, nil) }},
		{"delete a pod by force", 6, func(ctx context.Context) error { return l.deletePod(ctx, new(int64)) }},
		{"change a pod", 12, l.changePod},
		{"change a ConfigMap", 8, func(ctx context.Context) error { return l.changeObject(ctx, kindConfigMap) }},
		{"change a Secret", 6, func(ctx context.Context) error { return l.changeObject(ctx, kindSecret) }},
		{"create a Deployment", 4, l.createDeployment},
		{"scale a Deployment", 10, l.scale},
		{"roll a Deployment", 4, l.roll},
		{"delete a Deployment", 2, l.deleteDeployment},
		{"create a Job", 5, l.createJob},
		{"delete a Job", 3, l.deleteJob},
	}
}

// furnish makes what pods refer to, and waits until pods can be made.
func (l *load) furnish(ctx context.Context) error {
	labels := map[string]string{turnKey: "0"}
	for i := range configs {
		_, err := l.origin.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: configName(i), Labels: labels}, Data: content(l.random, 0),
		}, metav1.CreateOptions{})
		if offload.IgnoreExisting(err) != nil {
			return fmt.Errorf("make ConfigMap: %w", err)
		}
		_, err = l.origin.CoreV1().Secrets(namespace).Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: secretName(i), Labels: labels}, StringData: content(l.random, 0),
		}, metav1.CreateOptions{})
		if offload.IgnoreExisting(err) != nil {
			return fmt.Errorf("make Secret: %w", err)
		}
	}
	for {
		_, err := l.origin.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		if err == nil {
			return nil
		}
		if !apierrors.IsNotFound(err) || !pause(ctx, pollEvery) {
			return fmt.Errorf("wait for the namespace's ServiceAccount: %w", err)
		}
	}
}

// work does one thing after another until ctx is done.
func (l *load) work(ctx context.Context) error {
	var all []operation
	for _, one := range l.operations() {
		for range one.weight {
			all = append(all, one)
		}
	}
	for pause(ctx, between(l.random, opLeast, opMost)) {
		one := all[l.random.IntN(len(all))]
		doing, cancel := context.WithTimeout(context.WithoutCancel(ctx), opTimeout)
		err := one.do(doing)
		cancel()
		switch {
		case err == nil:
			l.count(one.name)
		case errors.Is(err, errNothing):
		case apierrors.IsNotFound(err), apierrors.IsConflict(err), apierrors.IsAlreadyExists(err):
			l.count("too late or too early")
		case apierrors.IsTimeout(err), apierrors.IsServerTimeout(err), apierrors.IsTooManyRequests(err), errors.Is(err, context.DeadlineExceeded):
			l.count("not answered") // by the origin itself, on a busy machine
		default:
			return fmt.Errorf("%s: %w", one.name, err)
		}
	}
	return nil
}

// errNothing says that there is nothing to do it to.
var errNothing = errors.New("nothing to do it to")

func (l *load) count(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[what]++
}

func (l *load) counted() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.counts)
}

// free is a name of which there is nothing, one that is there otherwise.
func (l *load) free(prefix string, limit int, taken *[]string) (string, error) {
	if len(*taken) >= limit {
		return "", errNothing
	}
	from := l.random.IntN(limit)
	for i := range limit {
		name := fmt.Sprintf("%s-%d", prefix, (from+i)%limit)
		if !slices.Contains(*taken, name) {
			*taken = append(*taken, name)
			return name, nil
		}
	}
	return "", errNothing
}

func (l *load) any(names []string) (string, error) {
	if len(names) == 0 {
		return "", errNothing
	}
	return names[l.random.IntN(len(names))], nil
}

func (l *load) take(names *[]string) (string, error) {
	name, err := l.any(*names)
	if err == nil {
		*names = slices.DeleteFunc(*names, func(other string) bool { return other == name })
	}
	return name, err
}

func (l *load) createPod(ctx context.Context) error {
	name, err := l.free("bare", maxBare, &l.pods)
	if err != nil {
		return err
	}
	_, err = l.origin.CoreV1().Pods(namespace).Create(ctx, barePod(l.random, name), metav1.CreateOptions{})
	return err
}

func (l *load) deletePod(ctx context.Context, grace *int64) error {
	name, err := l.take(&l.pods)
	if err != nil {
		return err
	}
	return l.origin.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: grace})
}

func (l *load) changePod(ctx context.Context) error {
	name, err := l.any(l.pods)
	if err != nil {
		return err
	}
	l.turn++
	turn := map[string]string{turnKey: fmt.Sprint(l.turn)}
	patch := map[string]any{"metadata": map[string]any{"labels": turn, "annotations": turn}}
	if l.random.IntN(3) == 0 {
		patch["spec"] = map[string]any{"containers": []any{map[string]any{"name": "main", "image": images()[l.random.IntN(len(images()))]}}}
	}
	return l.patch(patch, func(data []byte) error {
		_, err := l.origin.CoreV1().Pods(namespace).Patch(ctx, name, types.StrategicMergePatchType, data, metav1.PatchOptions{})
		return err
	})
}

func (l *load) patch(patch map[string]any, send func([]byte) error) error {
	data, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("encode patch: %w", err)
	}
	return send(data)
}

func (l *load) changeObject(ctx context.Context, kind string) error {
	l.turn++
	i, text := l.random.IntN(configs), content(l.random, l.turn)
	if kind == kindConfigMap {
		return l.patch(map[string]any{"data": text}, func(data []byte) error {
			_, err := l.origin.CoreV1().ConfigMaps(namespace).Patch(ctx, configName(i), types.MergePatchType, data, metav1.PatchOptions{})
			return err
		})
	}
	return l.patch(map[string]any{"stringData": text}, func(data []byte) error {
		_, err := l.origin.CoreV1().Secrets(namespace).Patch(ctx, secretName(i), types.MergePatchType, data, metav1.PatchOptions{})
		return err
	})
}

func (l *load) createDeployment(ctx context.Context) error {
	name, err := l.free("many", maxDeployments, &l.deployments)
	if err != nil {
		return err
	}
	_, err = l.origin.AppsV1().Deployments(namespace).Create(ctx, deployment(l.random, name), metav1.CreateOptions{})
	return err
}

func (l *load) changeDeployment(ctx context.Context, patch map[string]any) error {
	name, err := l.any(l.deployments)
	if err != nil {
		return err
	}
	return l.patch(map[string]any{"spec": patch}, func(data []byte) error {
		_, err := l.origin.AppsV1().Deployments(namespace).Patch(ctx, name, types.StrategicMergePatchType, data, metav1.PatchOptions{})
		return err
	})
}

func (l *load) scale(ctx context.Context) error {
	return l.changeDeployment(ctx, map[string]any{"replicas": l.random.IntN(maxReplicas + 1)})
}

func (l *load) roll(ctx context.Context) error {
	l.turn++
	return l.changeDeployment(ctx, map[string]any{"template": map[string]any{"metadata": map[string]any{
		"annotations": map[string]string{turnKey: fmt.Sprint(l.turn)},
	}}})
}

// propagation is one of the ways in which what somebody owns goes with him.
func (l *load) propagation() metav1.DeleteOptions {
	policy := []metav1.DeletionPropagation{metav1.DeletePropagationBackground, metav1.DeletePropagationForeground}[l.random.IntN(2)]
	return metav1.DeleteOptions{PropagationPolicy: &policy}
}

func (l *load) deleteDeployment(ctx context.Context) error {
	name, err := l.take(&l.deployments)
	if err != nil {
		return err
	}
	return l.origin.AppsV1().Deployments(namespace).Delete(ctx, name, l.propagation())
}

func (l *load) createJob(ctx context.Context) error {
	name, err := l.free("job", maxJobs, &l.jobs)
	if err != nil {
		return err
	}
	_, err = l.origin.BatchV1().Jobs(namespace).Create(ctx, job(l.random, name), metav1.CreateOptions{})
	return err
}

func (l *load) deleteJob(ctx context.Context) error {
	name, err := l.take(&l.jobs)
	if err != nil {
		return err
	}
	return l.origin.BatchV1().Jobs(namespace).Delete(ctx, name, l.propagation())
}

// remove deletes everything that makes pods, and all pods.
func (l *load) remove(ctx context.Context) error {
	background := metav1.DeletePropagationBackground
	options, all := metav1.DeleteOptions{PropagationPolicy: &background}, metav1.ListOptions{}
	return errors.Join(
		l.origin.AppsV1().Deployments(namespace).DeleteCollection(ctx, options, all),
		l.origin.BatchV1().Jobs(namespace).DeleteCollection(ctx, options, all),
		l.origin.CoreV1().Pods(namespace).DeleteCollection(ctx, metav1.DeleteOptions{}, all),
	)
}
