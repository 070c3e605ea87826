// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Misreported is misreported.
func Misreported(before corev1.PodPhase, pod *corev1.Pod) string { return misreported(before, pod) }

// MeasuredHeap is what becomes of one sample every ten seconds of a process, by what it held, and of a last one.
func MeasuredHeap(restartAfter int, heap ...float64) Memory {
	samples := make([]sample, len(heap))
	for i := range heap {
		pid := 1
		if i >= restartAfter {
			pid = 2
		}
		samples[i] = sample{at: time.Duration(i) * sampleEvery, pid: pid, pods: i, held: Held{Heap: heap[i]}}
	}
	return measured("one", samples)
}

// Ledger is a ledger that nothing is told to but by Near and Far.
type Ledger struct{ *ledger }

// NewLedger returns an empty one.
func NewLedger() Ledger { return Ledger{newLedger(time.Now(), func(string) {})} }

// Near and Far tell it of a pod.
func (l Ledger) Near(pod *corev1.Pod, gone bool) { l.near(pod, event(gone)) }

// Far is Near for the target.
func (l Ledger) Far(pod *corev1.Pod, gone bool) { l.far(pod, event(gone)) }

func event(is bool) string {
	if is {
		return gone
	}
	return changed
}

// Wrong, Twice, History and Count are what it knows.
func (l Ledger) Wrong() []string { return l.wrong() }

// Twice is twice.
func (l Ledger) Twice(pods ...corev1.Pod) []Difference { return l.twice(pods) }

// History is history.
func (l Ledger) History(uid string) string { return l.history(uid) }

// Remark is remark.
func (l Ledger) Remark(text string) { l.remark(text) }

// Count is count.
func (l Ledger) Count() (near, far int) { return l.count() }
