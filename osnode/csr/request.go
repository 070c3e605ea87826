// SPDX-License-Identifier: Apache-2.0

package csr

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// BootstrapGroup is the group of all bootstrap tokens of OpenStackNodes; a further one,
	// with a colon and the UID of the OpenStackNode after it, says whose the token is.
	BootstrapGroup = "system:bootstrappers:osn"

	bootstrapUser = "system:bootstrap:"
	nodeUser      = "system:node:"
	nodesGroup    = "system:nodes"
	// tokenSecret is what the name of a token's Secret begins with.
	tokenSecret = "bootstrap-token-"
)

// Kind is what is asked for, and by whom.
type Kind string

// The kinds.
const (
	// Stranger is everything that this package has no say in.
	Stranger Kind = "stranger"
	// Join is a client certificate, asked for with a bootstrap token.
	Join Kind = "join"
	// Serve is a serving certificate, asked for by a node.
	Serve Kind = "serve"
)

// Request is what a CertificateSigningRequest says.
type Request struct {
	Kind     Kind
	UID      types.UID
	Name     string
	Created  time.Time
	Username string
	Groups   []string
	Usages   []certificatesv1.KeyUsage
	// Token is the id of the token of a Join, NodeID the name of the node of a Serve.
	Token, NodeID string
	// Certificate is the request itself; nil if Malformed says why there is none.
	Certificate *x509.CertificateRequest
	Malformed   error
}

// Read takes a CertificateSigningRequest apart. It takes anything.
func Read(object *certificatesv1.CertificateSigningRequest) Request {
	request := Request{
		Kind: Stranger, UID: object.UID, Name: object.Name, Created: object.CreationTimestamp.Time,
		Username: object.Spec.Username, Groups: object.Spec.Groups, Usages: object.Spec.Usages,
	}
	switch object.Spec.SignerName {
	case certificatesv1.KubeAPIServerClientKubeletSignerName:
		if token, isToken := strings.CutPrefix(request.Username, bootstrapUser); isToken && slices.Contains(request.Groups, BootstrapGroup) {
			request.Kind, request.Token = Join, token
		}
	case certificatesv1.KubeletServingSignerName:
		if nodeID, isNode := strings.CutPrefix(request.Username, nodeUser); isNode && slices.Contains(request.Groups, nodesGroup) {
			request.Kind, request.NodeID = Serve, nodeID
		}
	}
	if request.Kind != Stranger {
		request.Certificate, request.Malformed = parse(object.Spec.Request)
	}
	return request
}

func parse(encoded []byte) (*x509.CertificateRequest, error) {
	block, rest := pem.Decode(encoded)
	switch {
	case block == nil || block.Type != "CERTIFICATE REQUEST":
		return nil, errors.New("the request is no PEM block of a certificate request")
	case strings.TrimSpace(string(rest)) != "":
		return nil, errors.New("the request is more than one PEM block")
	}
	certificate, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("the request cannot be read: %w", err)
	}
	if err := certificate.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the request is not signed with its own key: %w", err)
	}
	return certificate, nil
}

// owner is the UID of the OpenStackNode that the token was made for, as the API server
// read it from the token's Secret. It is empty when the token does not say, or says more
// than one.
func (r Request) owner() types.UID {
	var owner types.UID
	for _, group := range r.Groups {
		uid, found := strings.CutPrefix(group, BootstrapGroup+":")
		if !found {
			continue
		}
		if owner != "" {
			return ""
		}
		owner = types.UID(uid)
	}
	return owner
}

// Decided tells that somebody has approved or denied a request.
func decided(object *certificatesv1.CertificateSigningRequest) bool {
	return approved(object) || is(object, certificatesv1.CertificateDenied)
}

func approved(object *certificatesv1.CertificateSigningRequest) bool {
	return is(object, certificatesv1.CertificateApproved) || len(object.Status.Certificate) > 0
}

func is(object *certificatesv1.CertificateSigningRequest, condition certificatesv1.RequestConditionType) bool {
	return slices.ContainsFunc(object.Status.Conditions, func(c certificatesv1.CertificateSigningRequestCondition) bool {
		return c.Type == condition
	})
}
