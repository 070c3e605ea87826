// SPDX-License-Identifier: Apache-2.0

// Package kubetest gives tests a real Kubernetes control plane: etcd and kube-apiserver, with controller-manager and
// scheduler when asked for, on loopback and free ports, gone when the test is.
//
//	func TestOne(t *testing.T) {
//		cluster := kubetest.Start(t, kubetest.Options{ControllerManager: true})
//		pods, err := cluster.Client().CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
//		…
//
// A start takes two to four seconds, so a package with several tests shares one cluster among them:
//
//	var shared = kubetest.NewShared(kubetest.Options{})
//
//	func TestMain(m *testing.M) { shared.Main(m) }
//
//	func TestMany(t *testing.T) {
//		cluster := shared.Cluster(t) // started by the first test that asks
//		…
//
// The programs are built on first use, which takes minutes on a fresh machine; a test fails when that fails. The kernel
// kills the processes when the test binary ends in whatever way.
package kubetest
