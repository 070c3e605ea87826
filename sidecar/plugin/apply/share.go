// SPDX-License-Identifier: Apache-2.0

package apply

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/cloudveneto/caas/sidecar/plugin/demand"
	"github.com/cloudveneto/caas/sidecar/plugin/table"
)

// ErrShare says that the client's share has no room for the pod now.
var ErrShare = errors.New("the share is used up")

// doubt is how long a pod counts that may or may not have been created. The watch shows
// one that was long before.
const doubt = 30 * time.Second

// reserve takes the pod's part of its client's share.
func (a *Applier) reserve(key table.Key, pod *corev1.Pod) error {
	if len(a.config.Share) == 0 {
		return nil
	}
	if !a.config.Known() {
		return &ClusterError{Sentence: "the pods in the target cluster are not known yet, and so not what is left of this cluster's share"}
	}
	short := a.config.Table.Reserve(key, demand.Of(pod), a.config.Share, time.Now())
	if len(short) == 0 {
		return nil
	}
	return &ClusterError{Sentence: shortOf(short), Err: ErrShare}
}

// unreserve gives the pod's part back after a create that failed.
func (a *Applier) unreserve(key table.Key, err error) {
	if happened(err) {
		a.config.Table.Doubt(key, time.Now().Add(doubt))
		return
	}
	a.config.Table.Release(key)
}

// happened tells that a create that failed may have taken effect all the same.
func happened(err error) bool {
	return apierrors.ReasonForError(err) == "" || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) ||
		apierrors.IsInternalError(err) || errors.Is(err, context.DeadlineExceeded)
}

// shortOf tells a user what has to become free. Quotas are told in much the same words.
func shortOf(short []table.Shortage) string {
	slices.SortFunc(short, func(a, b table.Shortage) int { return strings.Compare(string(a.Resource), string(b.Resource)) })
	never := false
	terms := make([]string, 0, len(short))
	for i := range short {
		s := &short[i]
		terms = append(terms, fmt.Sprintf("%s: requested %s, used %s, share %s", s.Resource, s.Asked.String(), s.Used.String(), s.Share.String()))
		never = never || s.Asked.Cmp(s.Share) > 0
	}
	sentence := "exceeds this cluster's share of the site (" + strings.Join(terms, "; ") + ")"
	if never {
		return sentence + "; it asks for more than the whole share: ask for less, or ask the site for more"
	}
	return sentence + "; it is created when other pods of this cluster have ended"
}
