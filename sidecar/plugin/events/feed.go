// SPDX-License-Identifier: Apache-2.0

package events

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// feed is where client-go's reflector puts what it sees.
type feed struct {
	log       *Log
	namespace string
}

// Add implements cache.ReflectorStore.
func (f *feed) Add(object any) error { return f.each(object, f.observe) }

// Update implements cache.ReflectorStore.
func (f *feed) Update(object any) error { return f.each(object, f.observe) }

// Delete implements cache.ReflectorStore.
func (f *feed) Delete(object any) error { return f.each(object, f.log.forget) }

// Replace implements cache.ReflectorStore: it takes in a whole list.
func (f *feed) Replace(list []any, _ string) error {
	listed := make(map[types.UID]bool, len(list))
	for _, object := range list {
		if err := f.each(object, func(event *corev1.Event) { listed[event.UID] = true; f.observe(event) }); err != nil {
			return err
		}
	}
	f.log.keep(f.namespace, listed)
	return nil
}

// Resync implements cache.ReflectorStore; there is nothing to do.
func (f *feed) Resync() error { return nil }

func (f *feed) observe(event *corev1.Event) { f.log.observe(event, time.Now()) }

func (f *feed) each(object any, take func(*corev1.Event)) error {
	event, ok := object.(*corev1.Event)
	if !ok {
		return fmt.Errorf("events: unexpected object %T", object)
	}
	take(event)
	return nil
}
