// SPDX-License-Identifier: Apache-2.0

// Package bench measures the project on the lab: each figure beside its direct
// reference in the same run, because only ratios of one run on one machine mean
// anything on a shared one. It knows Kubernetes clients and process ids, not the
// components behind them.
package bench
