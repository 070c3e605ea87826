// SPDX-License-Identifier: Apache-2.0

// Package demo runs the main job for a newcomer to watch: a Monte Carlo dose
// estimate, submitted to the af cluster as an Indexed Job, runs on the nodes of
// the caas cluster through the virtual node, and its result is checked.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/examples/montecarlo"
	"github.com/cloudveneto/caas/examples/montecarlo/result"
)

// Config says where the demo runs.
type Config struct {
	// Origin is the af cluster, CaaS the other; both with an administrator's rights.
	Origin, CaaS kubernetes.Interface
	// Node is the virtual node's name, RemoteNamespace where its pods run on caas.
	Node, RemoteNamespace string
	Out                   io.Writer
}

// patience bounds the Job; on two cores it takes well below a minute.
const patience = 10 * time.Minute

// Run submits the job, waits for it, checks its result and prints what happened.
func Run(ctx context.Context, config Config) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	d := &demo{Config: config}
	d.say("submitting examples/montecarlo to the remote cluster: an Indexed Job of %d pods for node %s", montecarlo.Completions, d.Node)
	if err := d.submit(ctx); err != nil {
		return fmt.Errorf("submit examples/montecarlo: %w", err)
	}
	if err := d.follow(ctx); err != nil {
		return fmt.Errorf("watch the pods of examples/montecarlo: %w", err)
	}
	pods, err := d.completed(ctx)
	if err != nil {
		return err
	}
	if err := d.physics(ctx, pods); err != nil {
		return err
	}
	return d.table(ctx, pods)
}

type demo struct {
	Config
}

func (d *demo) say(format string, args ...any) { _, _ = fmt.Fprintf(d.Out, format+"\n", args...) }

// submit creates the example's objects, after removing those of an earlier run.
func (d *demo) submit(ctx context.Context) error {
	namespace, secret, job, err := objects()
	if err != nil {
		return err
	}
	if err := d.clean(ctx); err != nil {
		return err
	}
	configMap := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: montecarlo.ConfigMapName},
		Data:       map[string]string{montecarlo.ScriptKey: montecarlo.Script(), montecarlo.DeckKey: montecarlo.Deck()},
	}
	core := d.Origin.CoreV1()
	_, err = core.Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create namespace: %w", err)
	}
	if _, err := core.ConfigMaps(montecarlo.Namespace).Create(ctx, configMap, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create input deck: %w", err)
	}
	if _, err := core.Secrets(montecarlo.Namespace).Create(ctx, secret, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create key: %w", err)
	}
	if _, err := d.Origin.BatchV1().Jobs(montecarlo.Namespace).Create(ctx, job, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create job: %w", err)
	}
	return nil
}

func objects() (*corev1.Namespace, *corev1.Secret, *batchv1.Job, error) {
	namespace, secret, job := &corev1.Namespace{}, &corev1.Secret{}, &batchv1.Job{}
	decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(montecarlo.Manifest()), 4096)
	for _, object := range []any{namespace, secret, job} {
		if err := decoder.Decode(object); err != nil {
			return nil, nil, nil, fmt.Errorf("read manifest: %w", err)
		}
	}
	return namespace, secret, job, nil
}

// clean removes the objects of an earlier run and waits until its pods are gone.
func (d *demo) clean(ctx context.Context) error {
	foreground := metav1.DeletePropagationForeground
	core := d.Origin.CoreV1()
	failures := []error{
		d.Origin.BatchV1().Jobs(montecarlo.Namespace).Delete(ctx, montecarlo.JobName, metav1.DeleteOptions{PropagationPolicy: &foreground}),
		core.ConfigMaps(montecarlo.Namespace).Delete(ctx, montecarlo.ConfigMapName, metav1.DeleteOptions{}),
		core.Secrets(montecarlo.Namespace).Delete(ctx, montecarlo.SecretName, metav1.DeleteOptions{}),
	}
	failures = slices.DeleteFunc(failures, apierrors.IsNotFound)
	if err := errors.Join(failures...); err != nil {
		return fmt.Errorf("remove the objects of an earlier run: %w", err)
	}
	return d.poll(ctx, func() (bool, error) {
		_, err := d.Origin.BatchV1().Jobs(montecarlo.Namespace).Get(ctx, montecarlo.JobName, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
}

// poll calls done every 200 ms until it says true.
func (d *demo) poll(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		finished, err := done()
		if finished || err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// physics collects the logs through the virtual node and checks the result.
func (d *demo) physics(ctx context.Context, pods []corev1.Pod) error {
	deck, err := result.ParseDeck([]byte(montecarlo.Deck()))
	if err != nil {
		return fmt.Errorf("read input deck: %w", err)
	}
	secret, err := d.Origin.CoreV1().Secrets(montecarlo.Namespace).Get(ctx, montecarlo.SecretName, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("read key: %w", err)
	}
	results := make([]result.Result, len(pods))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for i, pod := range pods {
		group.Go(func() error {
			log, err := d.Origin.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{}).Stream(ctx)
			if err != nil {
				return fmt.Errorf("log of pod %s: %w", pod.Name, err)
			}
			defer func() { _ = log.Close() }()
			results[i], err = result.Parse(log, secret.Data[montecarlo.SecretKey])
			if err != nil {
				return fmt.Errorf("log of pod %s: %w", pod.Name, err)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	report, err := result.Combine(deck, montecarlo.Completions, results)
	if err != nil {
		return fmt.Errorf("physics result: %w", err)
	}
	d.printPhysics(report)
	return nil
}
