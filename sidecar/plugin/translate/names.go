// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// Labels and annotations of created objects. They are the sidecar's only memory.
const (
	LabelManagedBy = "app.kubernetes.io/managed-by"
	ManagedBy      = "interlink-sidecar"
	// LabelUID is the pod's UID at its origin.
	LabelUID = "offload.infn.it/uid"
	// LabelOrigin is OriginLabel of the client that created the pod.
	LabelOrigin = "offload.infn.it/origin"
	// LabelPrefix carries the origin's labels, so that no controller and no Service
	// of the target cluster adopts the pod.
	LabelPrefix = "labels.offload.infn.it/"

	AnnotationNamespace = "offload.infn.it/namespace"
	AnnotationName      = "offload.infn.it/name"
	AnnotationSpecHash  = "offload.infn.it/spec-hash"
	AnnotationReport    = "offload.infn.it/report"
	// AnnotationApplied is what an update has to compare with, see Applied.
	AnnotationApplied = "offload.infn.it/applied"
	// LabelClaim, on a created claim, is the identity of the origin's claim.
	LabelClaim = "offload.infn.it/claim"
	// LabelClaimPrefix stands before such an identity in a label of each pod that uses the
	// created claim; the label's value is the claim's name.
	LabelClaimPrefix = "claims.offload.infn.it/"
	// LabelRetention, on a created claim, is its Retention.
	LabelRetention = "offload.infn.it/retention"
	// AnnotationGrace, on a created claim, is how long it stays without a pod that uses it.
	AnnotationGrace = "offload.infn.it/grace"
	// AnnotationUnusedSince, on a created claim, is since when no pod uses it.
	AnnotationUnusedSince = "offload.infn.it/unused-since"

	// AnnotationPolicy chooses between private and shared nodes of the target cluster.
	AnnotationPolicy = "osn.infn.it/policy"

	// GateObjects holds a pod back until the objects that it references exist.
	GateObjects = "offload.infn.it/objects"

	// DefaultClient is the client of requests that name none.
	DefaultClient = "default"
)

const (
	maxName  = 63
	hashSize = 16
	// hashMark stands before the hash in an origin label.
	hashMark = "-x"
)

// OriginLabel is a client's identity as a label value: itself when it is one,
// otherwise a readable part of it and a hash.
func OriginLabel(client string) string {
	if client == "" {
		client = DefaultClient
	}
	if len(validation.IsValidLabelValue(client)) == 0 && !looksHashed(client) {
		return client
	}
	return readable(client, maxName-hashSize-len(hashMark)) + hashMark + digest(client)
}

// looksHashed keeps a client from choosing a name that is another one's label.
func looksHashed(client string) bool {
	at := len(client) - hashSize - len(hashMark)
	return at >= 0 && client[at:at+len(hashMark)] == hashMark
}

// RemoteName is the name of the created pod: readable, and unique for the pod's
// identity even when long names share their beginning.
func RemoteName(origin, cluster, namespace, name, uid string) string {
	return withHash(name, digest(origin, cluster, namespace, name, uid))
}

func withHash(name, hash string) string {
	return readable(name, maxName-len(hash)-1) + "-" + hash
}

// readable makes the beginning of a DNS label out of any text.
func readable(text string, limit int) string {
	var out strings.Builder
	for _, r := range strings.ToLower(text) {
		if out.Len() == limit {
			break
		}
		if (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') {
			out.WriteRune(r)
		} else if out.Len() > 0 {
			out.WriteByte('-')
		}
	}
	trimmed := strings.TrimRight(out.String(), "-")
	if trimmed == "" {
		return "pod"
	}
	return trimmed
}

// digest hashes parts so that no two lists of parts give the same input.
func digest(parts ...string) string {
	sum := sha256.New()
	for _, part := range parts {
		_, _ = sum.Write([]byte(part))
		_, _ = sum.Write([]byte{0})
	}
	return hex.EncodeToString(sum.Sum(nil))[:hashSize]
}

// remoteLabelKey is the key under which an origin label travels.
func remoteLabelKey(key string) string {
	name := strings.ReplaceAll(key, "/", "_")
	if len(name) > maxName {
		name = name[:maxName-hashSize-1] + "_" + digest(key)
	}
	return LabelPrefix + name
}
