// SPDX-License-Identifier: Apache-2.0

// Package kube builds and runs real Kubernetes control planes on this machine: etcd, kube-apiserver and, when asked
// for, kube-controller-manager and kube-scheduler, as plain processes on loopback or in a network namespace.
//
//	bin, err := kube.Build(ctx, gobuild.Config{})
//	plane, err := kube.Start(ctx, kube.Config{Name: "caas", Dir: dir, BinDir: bin, ControllerManager: true})
//	client, err := kubernetes.NewForConfig(plane.RESTConfig())
//	…
//	err = plane.Kill()
//
// It owns the directory that it is given: certificates, kubeconfig files, logs, process records and etcd's data are all
// in there. Besides lab/proc and lab/gobuild it imports nothing of this repository.
package kube
