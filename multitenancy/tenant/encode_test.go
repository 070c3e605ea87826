// SPDX-License-Identifier: Apache-2.0

package tenant_test

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cloudveneto/caas/multitenancy/tenant"
)

const userID = "2ddd446e119b417791492e950553a055"

// digest is written down here a second time: other programs have to agree on it.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return strings.ToLower(strings.TrimRight(base32.StdEncoding.EncodeToString(sum[:]), "="))
}

func TestEncodeID(t *testing.T) {
	t.Parallel()
	ldap := strings.Repeat("0123456789abcdef", 4)
	for name, test := range map[string]struct{ id, want string }{
		"uuid":              {userID, userID},
		"63 characters":     {ldap[:63], ldap[:63]},
		"64 characters":     {ldap, "h-" + digest(ldap)},
		"like a hash":       {"h-" + digest(ldap), "h-" + digest("h-"+digest(ldap))},
		"reserved":          {"project", "h-" + digest("project")},
		"begins illegally":  {"-x", "h-" + digest("-x")},
		"other characters":  {"a b", "h-" + digest("a b")},
		"empty is nobody's": {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, tenant.EncodeID(test.id))
		})
	}
}

func TestEncodeSubject(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "h-"+digest("https://iam.example.org/\x00alice"), tenant.EncodeSubject("https://iam.example.org/", "alice"))
	assert.NotEqual(t, tenant.EncodeSubject("https://a.example.org", "x"), tenant.EncodeSubject("https://b.example.org", "x"))
	assert.NotEqual(t, tenant.EncodeSubject("https://a", "bc"), tenant.EncodeSubject("https://ab", "c"))
	assert.Empty(t, tenant.EncodeSubject("", "alice"))
	assert.Empty(t, tenant.EncodeSubject("https://a", ""))
}

func TestLabelName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 80)
	for name, test := range map[string]struct{ text, want string }{
		"mail":       {"zangrand@infn.it", "zangrand-at-infn.it"},
		"spaces":     {"Quantum Tea", "Quantum-Tea"},
		"edges":      {"_x.", "x"},
		"no letters": {"日本", "h-" + digest("日本")[:8]},
		"empty":      {"", ""},
		"long":       {long, long[:54] + "-" + digest(long)[:8]},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, tenant.LabelName(test.text))
		})
	}
}

func TestPools(t *testing.T) {
	t.Parallel()
	full := strings.Repeat("a", 63)
	assert.Equal(t, "u-"+userID, tenant.PrivatePool(userID))
	assert.Equal(t, "p-"+userID, tenant.SharedPool(userID))
	// The controller of OpenStackNodes has the same rule for ids that fill a label.
	assert.Equal(t, "u-h-"+digest(full), tenant.PrivatePool(full))
	assert.Equal(t, "p-h-"+digest(full), tenant.SharedPool(full))
	assert.Empty(t, tenant.PrivatePool(""))
	assert.Empty(t, tenant.SharedPool(""))
}

func FuzzEncode(f *testing.F) {
	for _, seed := range []string{"", userID, "project", "h-x", "a@b", strings.Repeat("f", 64), "\x00", "日本", "-", "A_.b"} {
		f.Add(seed, "https://iam.example.org")
	}
	f.Fuzz(func(t *testing.T, text, issuer string) {
		for _, value := range []string{
			tenant.EncodeID(text), tenant.EncodeSubject(issuer, text), tenant.LabelName(text),
			tenant.PrivatePool(tenant.EncodeID(text)), tenant.SharedPool(tenant.EncodeID(text)),
		} {
			require.Empty(t, validation.IsValidLabelValue(value), "%q", value)
		}
		encoded := tenant.EncodeID(text)
		require.Equal(t, text == "", encoded == "")
		require.NotEqual(t, tenant.VisibleToProject, encoded)
		if text != issuer && text != "" && issuer != "" {
			require.NotEqual(t, encoded, tenant.EncodeID(issuer))
		}
		namespace := tenant.NamespaceName(tenant.Project{ID: issuer, Name: text}, func(string) (string, bool) { return "", false })
		require.Empty(t, validation.IsDNS1123Label(namespace), "%q", namespace)
		require.False(t, tenant.SystemNamespace(namespace))
	})
}
