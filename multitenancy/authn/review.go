// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"encoding/json"
	"fmt"
	"slices"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// The two versions of a TokenReview. What is in them is the same.
const (
	versionV1      = "authentication.k8s.io/v1"
	versionV1beta1 = "authentication.k8s.io/v1beta1"
	kind           = "TokenReview"
)

// question is what the API server asks.
type question struct {
	metav1.TypeMeta `json:",inline"`

	Spec authenticationv1.TokenReviewSpec `json:"spec"`
}

// reply is what it is told. It has no spec, and so not the token.
type reply struct {
	metav1.TypeMeta `json:",inline"`

	Status authenticationv1.TokenReviewStatus `json:"status"`
}

func decode(body []byte) (question, error) {
	var asked question
	// The decoder's own errors may quote the body, and the body has a token.
	if json.Unmarshal(body, &asked) != nil {
		return question{}, fmt.Errorf("the body is no %s", kind)
	}
	if asked.Kind != kind || asked.APIVersion != versionV1 && asked.APIVersion != versionV1beta1 {
		return question{}, fmt.Errorf("the body is no %s of %s or %s", kind, versionV1, versionV1beta1)
	}
	return asked, nil
}

// refused is the answer no.
func refused() authenticationv1.TokenReviewStatus { return authenticationv1.TokenReviewStatus{} }

// unknown is the answer that nobody could tell. The API server then tells its client no,
// but asks again next time.
func unknown() authenticationv1.TokenReviewStatus {
	return authenticationv1.TokenReviewStatus{Error: "the identity provider cannot be asked at the moment"}
}

func accepted(user tenant.User, audiences []string) authenticationv1.TokenReviewStatus {
	extra := make(map[string]authenticationv1.ExtraValue, len(user.Extra))
	for key, values := range user.Extra {
		extra[key] = values
	}
	return authenticationv1.TokenReviewStatus{
		Authenticated: true,
		User:          authenticationv1.UserInfo{Username: user.Name, UID: user.UID, Groups: user.Groups, Extra: extra},
		Audiences:     audiences,
	}
}

// common are the audiences that were asked for and are served. None is an answer too: the
// token is then good for the API server alone.
func common(asked, served []string) []string {
	var both []string
	for _, audience := range asked {
		if slices.Contains(served, audience) {
			both = append(both, audience)
		}
	}
	return both
}
