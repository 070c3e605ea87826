// SPDX-License-Identifier: Apache-2.0

package provider

import (
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/tools/cache"
)

// wholePods is the informer as the library gets it. When a watch breaks, an informer learns from its next list that a pod
// was deleted meanwhile, and says so with the last that it knew of the pod. The library takes no notice of such a deletion
// and keeps the pod for as long as the process lives; so it is told of the pod itself.
type wholePods struct{ coreinformers.PodInformer }

func (w wholePods) Informer() cache.SharedIndexInformer { //nolint:ireturn // the library's interface is what it takes
	return wholeInformer{w.PodInformer.Informer()}
}

type wholeInformer struct{ cache.SharedIndexInformer }

func (w wholeInformer) AddEventHandler(handler cache.ResourceEventHandler) (cache.ResourceEventHandlerRegistration, error) { //nolint:ireturn // as above
	return w.SharedIndexInformer.AddEventHandler(wholeHandler{handler}) //nolint:wrapcheck // the informer's own answer
}

type wholeHandler struct{ cache.ResourceEventHandler }

func (h wholeHandler) OnDelete(object any) {
	h.ResourceEventHandler.OnDelete(lastKnown(object))
}

// lastKnown is the object of which an informer says that it was deleted.
func lastKnown(object any) any {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		return unknown.Obj
	}
	return object
}
