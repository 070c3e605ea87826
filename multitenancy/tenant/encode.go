// SPDX-License-Identifier: Apache-2.0

package tenant

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	// hashPrefix marks a value that stands for one that a label cannot hold.
	hashPrefix = "h-"
	// nameHashLength is how much of a hash tells apart names that begin alike.
	nameHashLength = 8

	privatePoolPrefix = "u-"
	sharedPoolPrefix  = "p-"
)

// EncodeID makes the id of a user or a project a label value. It is the id itself
// wherever possible; one that is too long (Keystone's LDAP ids have 64 characters) or has
// other characters, or that could be taken for something else, becomes a hash. Different
// ids have different values. The empty id stays empty, and is nobody's.
func EncodeID(id string) string {
	if id == "" || isLabelValue(id) && id != VisibleToProject && !strings.HasPrefix(id, hashPrefix) {
		return id
	}
	return hashPrefix + hash(id)
}

// EncodeSubject makes a label value of a subject of an OpenID provider, which is only
// unique together with its issuer.
func EncodeSubject(issuer, subject string) string {
	if issuer == "" || subject == "" {
		return ""
	}
	return hashPrefix + hash(issuer+"\x00"+subject)
}

// LabelName makes a name a label value, for people to read: it does not tell apart all
// names, so nothing may be decided by it.
func LabelName(name string) string {
	value := strings.Map(labelRune, strings.ReplaceAll(name, "@", "-at-"))
	value = strings.Trim(value, "-_.")
	switch {
	case value == "" && name == "":
		return ""
	case value == "":
		return hashPrefix + hash(name)[:nameHashLength]
	case len(value) > validation.LabelValueMaxLength:
		cut := validation.LabelValueMaxLength - nameHashLength - 1
		return value[:cut] + "-" + hash(name)[:nameHashLength]
	default:
		return value
	}
}

// PrivatePool is the pool of the nodes on which only their owner's pods run. The owner is
// label-ready. It is the value that the controller of OpenStackNodes gives to nodes.
func PrivatePool(owner string) string { return pool(privatePoolPrefix, owner) }

// SharedPool is the pool of the nodes on which the pods of all members of a project run.
func SharedPool(projectID string) string { return pool(sharedPoolPrefix, projectID) }

func pool(prefix, id string) string {
	if id == "" {
		return ""
	}
	if value := prefix + id; isLabelValue(value) {
		return value
	}
	// An id may fill a label to its last character, and the prefix then has no room.
	return prefix + hashPrefix + hash(id)
}

// hash has 52 characters, all of which a label and a DNS name may have.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
}

func labelRune(r rune) rune {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-', r == '_', r == '.':
		return r
	default:
		return '-'
	}
}

func isLabelValue(value string) bool { return len(validation.IsValidLabelValue(value)) == 0 }
