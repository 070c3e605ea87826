// SPDX-License-Identifier: Apache-2.0

// Package dask carries the files of the dask example, so that a program can apply exactly what a user applies with
// kubectl. It imports nothing of this module.
package dask

import _ "embed"

//go:embed worker.yaml
var worker string

//go:embed client.yaml
var client string

// Names of what the manifests create.
const (
	Namespace     = "dask"                         // Namespace holds everything.
	Scheduler     = "high-rate-analysis-scheduler" // Scheduler is the Deployment and the Service of the scheduler.
	ConfigMapName = "dask-programs"                // ConfigMapName holds the programs, which are mounted in /example.
	Group         = "high-rate-analysis-default"   // Group is the group of workers, with whose name theirs begin.
	WorkerSuffix  = "0123456789"                   // WorkerSuffix stands in Worker for the digits of each worker's own name.
)

// Worker is the YAML of the Deployment of one worker. Every worker has another ending in place of WorkerSuffix.
func Worker() string { return worker }

// Client is the YAML of the Job that computes. It waits for as many workers as its argument --workers says.
func Client() string { return client }
