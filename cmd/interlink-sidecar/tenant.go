// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/multitenancy/tenant"
	"github.com/cloudveneto/caas/sidecar/plugin"
)

const (
	whoTimeout = 10 * time.Second
	whoAgain   = 2 * time.Second
	// reachAgain is the time between two looks at a kubeconfig that cannot be used.
	reachAgain = 5 * time.Second
)

// becomeTenant finds out who the sidecar is in the target cluster. One that keeps tenants apart shows each only what is
// his, and wants him to say so in every list: the selectors for that are added to the settings. It asks until the cluster
// answers; an error is ctx's own. failed is told why there is no answer yet.
func becomeTenant(ctx context.Context, client kubernetes.Interface, settings *plugin.Settings, failed func(error)) error {
	for {
		identity, err := whoAmI(ctx, client)
		if err == nil {
			restrict(settings, identity)
			if identity.Kind == tenant.Tenant {
				logging.From(ctx).InfoContext(ctx, "sidecar is a tenant", "user", identity.OwnerName, "owner", identity.Owner)
			}
			return nil
		}
		logging.From(ctx).WarnContext(ctx, "target cluster does not say who the sidecar is, asking again", "error", err)
		failed(err)
		if err := pause(ctx, whoAgain); err != nil {
			return err
		}
	}
}

// pause waits; an error is ctx's own.
func pause(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func whoAmI(ctx context.Context, client kubernetes.Interface) (tenant.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, whoTimeout)
	defer cancel()
	review, err := client.AuthenticationV1().SelfSubjectReviews().Create(ctx, &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
	if err != nil {
		return tenant.Identity{}, fmt.Errorf("ask who the sidecar is: %w", err)
	}
	info := review.Status.UserInfo
	extra := make(map[string][]string, len(info.Extra))
	for key, values := range info.Extra {
		extra[key] = values
	}
	return tenant.IdentityOf(tenant.User{Name: info.Username, UID: info.UID, Groups: info.Groups, Extra: extra}), nil
}

// restrict adds the selectors that a tenant has to give. What the file says already is enough by itself.
func restrict(settings *plugin.Settings, identity tenant.Identity) {
	if identity.Kind != tenant.Tenant {
		return
	}
	if settings.Selector == "" {
		settings.Selector = tenant.LabelUserID + "=" + identity.Owner
	}
	if settings.VisibleNodes == "" {
		mode := settings.Policy.Annotations[tenant.AnnotationPolicy]
		settings.VisibleNodes = tenant.NodePoolLabel + " in (" + strings.Join(pools(identity, mode), ",") + ")"
	}
}

// pools are those of the nodes on which the pods can run.
func pools(identity tenant.Identity, mode string) []string {
	all := []string{tenant.PrivatePool(identity.Owner)}
	if mode == tenant.PolicyShared {
		for _, project := range identity.Projects {
			all = append(all, tenant.SharedPool(project.ID))
		}
	}
	slices.Sort(all)
	return all
}

// again sends a request a second time that the target cluster did not take for the credential's sake: below, client-go
// has got a new one by then, and a pod must not be lost because a token ended.
type again struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (a again) RoundTrip(request *http.Request) (*http.Response, error) {
	answer, err := a.next.RoundTrip(request)
	if err != nil || answer.StatusCode != http.StatusUnauthorized || request.Body != nil && request.Body != http.NoBody && request.GetBody == nil {
		return answer, err
	}
	second := request.Clone(request.Context())
	if request.GetBody != nil {
		if second.Body, err = request.GetBody(); err != nil {
			return answer, nil //nolint:nilerr // the first answer is one
		}
	}
	const most = 64 << 10
	_, _ = io.CopyN(io.Discard, answer.Body, most) // so that the connection can be used again
	_ = answer.Body.Close()
	return a.next.RoundTrip(second)
}

// WrappedRoundTripper lets client-go find what is below.
func (a again) WrappedRoundTripper() http.RoundTripper { return a.next }

// quietly logs the target cluster's warnings for those who look for them: it has some for every shared pod.
type quietly struct{}

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (quietly) HandleWarningHeaderWithContext(ctx context.Context, _ int, _, text string) {
	if text != "" {
		logging.From(ctx).DebugContext(ctx, "target cluster warns", "warning", text)
	}
}
