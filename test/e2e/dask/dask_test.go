// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package dask_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/examples/dask"
	"github.com/cloudveneto/caas/test/e2e/labtest"
)

const (
	workersSelector = "dask.org/component=worker"
	many, few       = 40, 5
	// returning is how many are retired and not deleted.
	returning = 2
	// groupSize is how many workers are made between two kills.
	groupSize = 4
	// nannyEvery is how many workers there are to one that has a nanny, because it lacks noNanny.
	nannyEvery = 10
	noNanny    = "--no-nanny"
	// memoryLimit is what a worker's container has.
	memoryLimit = 512 << 20
)

// event is a line of what a client prints.
type event struct {
	Event   string            `json:"event"`
	Time    float64           `json:"time"`
	Workers map[string]string `json:"workers"`

	Sum, Expected, Last, Memory, Made, Blocks, Fetched, Logs, Nannies, NannyLogs int64
}

// TestDask scales a dask cluster from no worker to forty, to five and to none, and computes on the way.
func TestDask(t *testing.T) {
	labtest.NeedRoot(t)
	w := shared.Get(t, newWorld)
	w.applyCluster(t)
	there, here := watch(t, w.caas, remoteNamespace, managed), watch(t, w.af, dask.Namespace, workersSelector)

	client := w.startClient(t, "first", many)
	w.awaitEvent(t, client, "connected")
	started, used := time.Now(), w.used(t)
	names := w.addWorkers(t, many)
	t.Logf("%d workers' Deployments created in %s", many, time.Since(started).Round(time.Millisecond))
	registered := w.awaitEvent(t, client, "registered")
	t.Logf("%d workers' pods Running at the origin after %s, registered after %.1f s, for which the path used %s of processor time", many,
		here.lastRunning().Sub(started).Round(100*time.Millisecond), registered.Time-float64(started.UnixMicro())/1e6, w.used(t)-used)
	checkAddresses(t, names, registered.Workers, here)
	result := w.awaitResult(t, client, many)
	assert.EqualValues(t, many/nannyEvery, result.Nannies)
	assert.Regexp(t, `Worker name: +`+names[0]+`\n`, w.kubectl(t.Context(), t, "-n", dask.Namespace, "logs", here.podOf(names[0])), "the log, through the virtual node")
	assert.Positive(t, result.Fetched, "workers fetched blocks from each other")
	fetched := result.Fetched

	names = w.remove(t, names, many-few)
	t.Logf("from %d workers to %d: pods gone at the origin after %s more", many, few, here.awaitAlive(t.Context(), t, "at the origin", few).Round(time.Millisecond))
	there.awaitAlive(t.Context(), t, "on the CaaS cluster", few)
	result = w.awaitResult(t, w.startClient(t, "second", few), few)
	t.Logf("blocks fetched from other workers: %d by %d, %d by %d", fetched, many, result.Fetched, few)

	again := w.retire(t, returning)
	w.awaitResult(t, w.startClient(t, "third", few), few)
	for _, one := range here.lives() {
		ended := slices.ContainsFunc(again, func(name string) bool { return strings.HasPrefix(one.name, name+"-") })
		assert.True(t, !ended || one.nanny || one.restarts > 0, "%s ended when it was retired, and is the same pod still", one.name)
	}

	names = w.remove(t, names, few)
	assert.Empty(t, names)
	here.awaitAlive(t.Context(), t, "at the origin", 0)
	there.awaitAlive(t.Context(), t, "on the CaaS cluster", 0)
	w.awaitNothingRemote(t)
	checkLives(t, here, there, many)
}

// TestDaskPathKilled does the same with fewer workers and a path whose programs are killed at the worst times: while workers
// are made, and when they have ended and are not deleted yet.
func TestDaskPathKilled(t *testing.T) {
	labtest.NeedRoot(t)
	w := shared.Get(t, newWorld)
	w.applyCluster(t)
	there, here := watch(t, w.caas, remoteNamespace, managed), watch(t, w.af, dask.Namespace, workersSelector)

	var names []string
	for _, component := range w.path.Components() {
		names = append(names, w.addWorkers(t, groupSize)...)
		require.NoError(t, w.path.Kill(t.Context(), component))
		require.NoError(t, w.path.Start(t.Context(), component))
	}
	workers := len(names)
	w.awaitResult(t, w.startClient(t, "first", workers), workers)

	retired := w.retire(t, workers-groupSize)
	for _, component := range w.path.Components() {
		require.NoError(t, w.path.Kill(t.Context(), component))
	}
	// What the path finds when it comes back are pods whose containers have ended with exit code 0 and run again.
	eventually(t.Context(), t, "retired workers run again on the CaaS cluster", func() (bool, string) {
		restarted := there.restarted()
		return restarted >= len(retired)-len(w.path.Components()), fmt.Sprintf("%d restarted", restarted)
	})
	require.NoError(t, w.path.StartAll(t.Context()))
	names = w.removeDeployments(t, names, retired)
	here.awaitAlive(t.Context(), t, "at the origin", groupSize)
	there.awaitAlive(t.Context(), t, "on the CaaS cluster", groupSize)
	w.awaitResult(t, w.startClient(t, "second", groupSize), groupSize)

	w.removeDeployments(t, names, slices.Clone(names))
	here.awaitAlive(t.Context(), t, "at the origin", 0)
	w.awaitNothingRemote(t)
	checkLives(t, here, there, workers)
}

// applyCluster makes the scheduler, as the example's guide says.
func (w *world) applyCluster(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		w.kubectl(ctx, t, "delete", "namespace", dask.Namespace, "--ignore-not-found", "--timeout=5m")
		w.awaitNothingRemote(t)
	})
	w.kubectl(t.Context(), t, "apply", "-k", ".")
	w.kubectl(t.Context(), t, "-n", dask.Namespace, "rollout", "status", "deployment/"+dask.Scheduler, "--timeout="+patience.String())
}

// addWorkers makes Deployments of workers one after the other, as the operator does, and returns their names.
func (w *world) addWorkers(t *testing.T, count int) []string {
	t.Helper()
	var names []string
	for i := range count {
		var digits [5]byte
		_, _ = rand.Read(digits[:]) // never fails
		var worker appsv1.Deployment
		manifest := strings.ReplaceAll(dask.Worker(), dask.WorkerSuffix, hex.EncodeToString(digits[:]))
		require.NoError(t, yaml.UnmarshalStrict([]byte(manifest), &worker))
		if container := &worker.Spec.Template.Spec.Containers[0]; i%nannyEvery == 0 {
			container.Args = slices.DeleteFunc(container.Args, func(argument string) bool { return argument == noNanny })
		}
		_, err := w.af.AppsV1().Deployments(dask.Namespace).Create(t.Context(), &worker, metav1.CreateOptions{})
		require.NoError(t, err)
		names = append(names, worker.Name)
	}
	return names
}

// retire lets the scheduler choose workers and take its leave of them. They end, with exit code 0, and unless somebody
// deletes them they are started again.
func (w *world) retire(t *testing.T, count int) []string {
	t.Helper()
	output := w.kubectl(t.Context(), t, "-n", dask.Namespace, "exec", "deployment/"+dask.Scheduler, "--",
		"/usr/bin/python3", "-B", "/example/retire.py", strconv.Itoa(count))
	retired := strings.Fields(output)
	require.Len(t, retired, count)
	return retired
}

// remove retires workers and then deletes their Deployments, as the operator does. It returns the names of the rest.
func (w *world) remove(t *testing.T, names []string, count int) []string {
	t.Helper()
	started := time.Now()
	retired := w.retire(t, count)
	rest := w.removeDeployments(t, names, retired)
	t.Logf("%d workers retired and their Deployments deleted in %s", count, time.Since(started).Round(time.Millisecond))
	return rest
}

func (w *world) removeDeployments(t *testing.T, names, retired []string) []string {
	t.Helper()
	policy := metav1.DeletePropagationBackground
	for _, name := range retired {
		require.Contains(t, names, name)
		err := w.af.AppsV1().Deployments(dask.Namespace).Delete(t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &policy})
		require.NoError(t, err)
	}
	return slices.DeleteFunc(names, func(name string) bool { return slices.Contains(retired, name) })
}

// startClient starts a client that waits for so many workers, and returns the name of its Job.
func (w *world) startClient(t *testing.T, name string, workers int) string {
	t.Helper()
	var job batchv1.Job
	require.NoError(t, yaml.UnmarshalStrict([]byte(dask.Client()), &job))
	job.Name += "-" + name
	job.Spec.Template.Spec.Containers[0].Args = []string{"--workers=" + strconv.Itoa(workers)}
	_, err := w.af.BatchV1().Jobs(dask.Namespace).Create(t.Context(), &job, metav1.CreateOptions{})
	require.NoError(t, err)
	return job.Name
}

// awaitEvent waits until a client has printed an event.
func (w *world) awaitEvent(t *testing.T, client, name string) event {
	t.Helper()
	var found event
	eventually(t.Context(), t, client+" says "+name, func() (bool, string) {
		log := w.clientLog(t, client)
		for line := range strings.Lines(log) {
			if one := (event{}); json.Unmarshal([]byte(line), &one) == nil && one.Event == name {
				found = one
				return true, log
			}
		}
		return false, log
	})
	return found
}

// clientLog is what a client has printed, or why it has printed nothing.
func (w *world) clientLog(t *testing.T, client string) string {
	t.Helper()
	pods, err := w.af.CoreV1().Pods(dask.Namespace).List(t.Context(), metav1.ListOptions{LabelSelector: batchv1.JobNameLabel + "=" + client})
	if err != nil {
		return err.Error()
	}
	if len(pods.Items) == 0 {
		return "no pod"
	}
	log, err := w.af.CoreV1().Pods(dask.Namespace).GetLogs(pods.Items[0].Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	if err != nil {
		return err.Error()
	}
	require.NotEqual(t, corev1.PodFailed, pods.Items[0].Status.Phase, "%s failed: %s", client, log)
	return string(log)
}

// awaitResult waits for what a client has computed with so many workers, and checks it.
func (w *world) awaitResult(t *testing.T, client string, workers int) event {
	t.Helper()
	result := w.awaitEvent(t, client, "result")
	assert.Equal(t, result.Expected, result.Sum)
	assert.EqualValues(t, memoryLimit, result.Memory, "of the container's limit")
	assert.Equal(t, result.Blocks, result.Made, "each block was made once: none was lost")
	assert.EqualValues(t, workers, result.Logs, "the scheduler reads all workers' logs")
	assert.Equal(t, result.Nannies, result.NannyLogs, "and their nannies'")
	w.kubectl(t.Context(), t, "-n", dask.Namespace, "wait", "--for=condition=Complete", "--timeout="+patience.String(), "job/"+client)
	return result
}

// checkAddresses holds what the workers told the scheduler against what the origin shows of their pods.
func checkAddresses(t *testing.T, names []string, workers map[string]string, pods *record) {
	t.Helper()
	addresses := map[string]string{}
	for _, one := range pods.lives() {
		assert.GreaterOrEqual(t, len(one.name), 55, one.name)
		assert.LessOrEqual(t, len(one.name), 63, one.name)
		for _, name := range names {
			if strings.HasPrefix(one.name, name+"-") {
				addresses[name] = one.ip
			}
		}
	}
	told := map[string]string{}
	distinct := map[string]bool{}
	for name, address := range workers {
		parsed, err := url.Parse(address)
		require.NoError(t, err)
		told[name] = parsed.Hostname()
		distinct[parsed.Hostname()] = true
	}
	assert.Equal(t, addresses, told, "workers tell their pods' addresses, and the origin shows them")
	assert.Len(t, distinct, len(names))
}

// awaitNothingRemote waits until the CaaS cluster holds nothing that the sidecar made.
func (w *world) awaitNothingRemote(t *testing.T) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	eventually(ctx, t, "nothing left on the CaaS cluster", func() (bool, string) {
		var left []string
		options := metav1.ListOptions{LabelSelector: managed}
		pods, err := w.caas.CoreV1().Pods("").List(ctx, options)
		require.NoError(t, err)
		for i := range pods.Items {
			left = append(left, "pod "+pods.Items[i].Name)
		}
		configMaps, err := w.caas.CoreV1().ConfigMaps("").List(ctx, options)
		require.NoError(t, err)
		for i := range configMaps.Items {
			left = append(left, "configmap "+configMaps.Items[i].Name)
		}
		secrets, err := w.caas.CoreV1().Secrets("").List(ctx, options)
		require.NoError(t, err)
		for i := range secrets.Items {
			left = append(left, "secret "+secrets.Items[i].Name)
		}
		return len(left) == 0, strings.Join(left, ", ")
	})
}

// checkLives holds all that was seen of the workers' pods against what may be: each Deployment had one pod, which had one
// at the other end, and none was ever at its end before it was deleted.
func checkLives(t *testing.T, here, there *record, workers int) {
	t.Helper()
	ours, theirs := here.lives(), there.lives()
	assert.Len(t, ours, workers, "each Deployment made one pod")
	for _, one := range ours {
		assert.NotContains(t, one.phases, corev1.PodFailed, one.name)
		assert.NotContains(t, one.phases, corev1.PodSucceeded, one.name)
		assert.NotContains(t, one.phases, corev1.PodUnknown, one.name)
		assert.Equal(t, []corev1.PodPhase{corev1.PodPending, corev1.PodRunning}, one.phases, one.name)
		assert.True(t, one.gone, one.name)
	}
	seen := map[types.UID]int{}
	for _, one := range theirs {
		seen[types.UID(one.labels[originUID])]++
	}
	assert.Len(t, theirs, workers, "each pod was created once")
	for uid, one := range ours {
		assert.Equal(t, 1, seen[uid], fmt.Sprintf("pods at the other end for %s", one.name))
	}
	t.Logf("workers that had ended by themselves when they were retired, and ran again: %d, as the origin saw it %d",
		there.restarted(), here.restarted())
}
