// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// drillSeed makes a drill repeatable; CAAS_DRILL_SEED chooses another one.
func drillSeed(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("CAAS_DRILL_SEED")
	if text == "" {
		return 20
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err, "CAAS_DRILL_SEED")
	return seed
}

// TestOffloadHundred runs 100 real pods of one Deployment.
func TestOffloadHundred(t *testing.T) {
	w := theWorld(t)
	w.deployment(t, "hundred", 100, nil)
	w.awaitAvailable(t, "hundred", 100)
	w.awaitOneToOne(t, "hundred", 100)
	w.removeDeployment(t, "hundred")
	w.awaitNothingRemote(t)
}

// TestOffloadKill kills each of the path's three processes with SIGKILL at
// random moments while 100 pods of a Deployment come and go: at the end no pod
// is lost, doubled or orphaned, and none was ever reported ended falsely.
func TestOffloadKill(t *testing.T) {
	w := theWorld(t).onFakeNodes(t)
	seed := drillSeed(t)
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0)) // a drill must be repeatable
	falseEnds := w.watchEnds(t, "drill")

	w.deployment(t, "drill", 100, nil)
	w.killAll(t, random)
	w.awaitAvailable(t, "drill", 100)
	w.awaitOneToOne(t, "drill", 100)

	patch := []byte(`{"spec":{"template":{"metadata":{"annotations":{"drill":"second"}}}}}`)
	_, err := w.af.AppsV1().Deployments(w.namespace).Patch(t.Context(), "drill", "application/strategic-merge-patch+json", patch, metav1.PatchOptions{})
	require.NoError(t, err)
	w.killAll(t, random)
	w.awaitAvailable(t, "drill", 100)
	w.awaitOneToOne(t, "drill", 100)

	background := metav1.DeletePropagationBackground
	require.NoError(t, w.af.AppsV1().Deployments(w.namespace).Delete(t.Context(), "drill", metav1.DeleteOptions{PropagationPolicy: &background}))
	w.killAll(t, random)
	eventually(t.Context(), t, "all pods gone at the origin", func() (bool, string) {
		pods := w.podsOf(t, "drill")
		return len(pods) == 0, strconv.Itoa(len(pods)) + " left"
	})
	w.awaitNothingRemote(t)
	assert.Empty(t, falseEnds(), "no pod that nobody deleted was reported as ended")
}

// killAll kills the three processes once each, in random order, at random
// moments within some seconds, and starts each again after a short while.
func (w *world) killAll(t *testing.T, random *rand.Rand) {
	t.Helper()
	names := slices.Clone(w.path.Components())
	random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names {
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
		require.NoError(t, w.path.Kill(t.Context(), name))
		time.Sleep(time.Duration(random.IntN(700)) * time.Millisecond)
		require.NoError(t, w.path.Start(t.Context(), name))
	}
}

// awaitOneToOne waits until n origin pods and n remote pods stand for each other.
func (w *world) awaitOneToOne(t *testing.T, app string, n int) {
	t.Helper()
	eventually(t.Context(), t, "one remote pod for each pod", func() (bool, string) {
		origin := map[string]bool{}
		for _, pod := range w.podsOf(t, app) {
			origin[string(pod.UID)] = true
		}
		list, err := w.caas.CoreV1().Pods(w.remoteNamespace).List(t.Context(), metav1.ListOptions{LabelSelector: managed})
		require.NoError(t, err)
		remote := map[string]int{}
		for _, pod := range list.Items {
			if pod.DeletionTimestamp == nil {
				remote[pod.Labels["offload.infn.it/uid"]]++
			}
		}
		for uid, count := range remote {
			if count != 1 || !origin[uid] {
				return false, "uid " + uid + " has " + strconv.Itoa(count) + " remote pods"
			}
		}
		return len(origin) == n && len(remote) == n, strconv.Itoa(len(origin)) + " at the origin, " + strconv.Itoa(len(remote)) + " remote"
	})
}

// watchEnds watches for pods that are reported ended although nobody deleted
// them; the function that it returns stops the watch and names them.
func (w *world) watchEnds(t *testing.T, app string) func() []string {
	t.Helper()
	stream, err := w.af.CoreV1().Pods(w.namespace).Watch(t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
	require.NoError(t, err)
	ended := make(chan []string, 1)
	go func() {
		var names []string
		for event := range stream.ResultChan() {
			pod, ok := event.Object.(*corev1.Pod)
			if ok && event.Type == watch.Modified && pod.DeletionTimestamp == nil &&
				(pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded) {
				names = append(names, pod.Name+" "+describe(pod))
			}
		}
		ended <- names
	}()
	return func() []string {
		stream.Stop()
		return <-ended
	}
}
