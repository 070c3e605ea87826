// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package drills_test

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

// decoded is user data with the parts that are in base64 behind it, in clear.
func decoded(data string) string {
	text := strings.Builder{}
	text.WriteString(data)
	for block := range strings.SplitSeq(strings.ReplaceAll(data, "\r\n", "\n"), "\n\n") {
		block, _, _ = strings.Cut(block, "\n--")
		if plain, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(block, "\n", "")); err == nil {
			text.Write(plain)
		}
	}
	return text.String()
}

// script is a user's part of so many bytes.
func script(size int) string {
	const head = "#!/bin/sh\n: "
	return head + strings.Repeat("x", size-len(head)-1) + "\n"
}

// longUserData is more than the API takes, and more than Nova takes of what the API does.
func longUserData(d *drill) {
	with := func(data string) func(*osnodev1.OpenStackNode) {
		return func(osn *osnodev1.OpenStackNode) { osn.Spec.UserData = &data }
	}
	for _, size := range []int{64 << 10, 16<<10 + 1} {
		osn := d.wish(d.name())
		with(script(size))(osn)
		err := d.user.Create(d.t.Context(), osn)
		require.True(d.t, apierrors.IsInvalid(err), "%d bytes: %v", size, err)
		assert.ErrorContains(d.t, err, "spec.userData: Too long: may not be more than 16384 bytes")
	}
	osn := d.create(d.name(), with(script(16<<10)))
	now := d.reaches(d.name(), osnodev1.PhaseFailed)
	d.condition(now, osnodev1.ConditionSpecResolved, metav1.ConditionFalse, osnodev1.ReasonUserDataTooLarge, "make userData shorter")
	assert.Contains(d.t, now.Status.Description, "at most 49149 are possible: make userData shorter")
	d.told(osn, osnodev1.ReasonUserDataTooLarge, 1)
	assert.Empty(d.t, d.everMade(osn.UID))
	d.remove(d.name())
	d.gone(d.name())
	d.running(d.id+"-short", with(script(1<<10)))
}

// badInput names what does not exist. The node says what is missing, and works as soon as it is there.
func badInput(d *drill) {
	admin, ctx := d.operator, d.t.Context()
	tests := map[string]struct {
		spec    func(*osnodev1.OpenStackNode)
		message string
		mend    func()
	}{
		"flavor": {
			spec:    func(osn *osnodev1.OpenStackNode) { osn.Spec.Flavor = "drill.flavor" },
			message: `There is no flavor "drill.flavor"`,
			mend: func() {
				require.NoError(d.t, admin.Do(ctx, http.MethodPost, "compute", "/flavors", object{"flavor": object{
					"name": "drill.flavor", "vcpus": 1, "ram": 512, "disk": 3,
				}}, nil))
			},
		},
		"key": {
			spec:    func(osn *osnodev1.OpenStackNode) { osn.Spec.KeyPair = "drill-key" },
			message: `There is no key pair "drill-key" of the owner`,
			mend:    func() { require.NoError(d.t, d.cloud.AddKeyPair(ctx, owner, d.project.Name, "drill-key")) },
		},
		"image": {
			spec:    func(osn *osnodev1.OpenStackNode) { osn.Spec.Image = &osnodev1.ImageReference{Name: "drill-image"} },
			message: `There is no active image "drill-image"`,
			mend: func() {
				var made struct{ ID string }
				require.NoError(d.t, admin.Do(ctx, http.MethodPost, "image", "/v2/images", object{
					"name": "drill-image", "disk_format": "raw", "container_format": "bare", "visibility": "public",
				}, &made))
				require.NoError(d.t, admin.Do(ctx, http.MethodPut, "image", "/v2/images/"+made.ID+"/file", io.Reader(bytes.NewReader([]byte("nothing"))), nil))
			},
		},
		"group": {
			spec:    func(osn *osnodev1.OpenStackNode) { osn.Spec.SecurityGroups = []string{"drill-group"} },
			message: `There is no security group "drill-group"`,
			mend: func() {
				require.NoError(d.t, d.login(owner).Do(ctx, http.MethodPost, "network", "/v2.0/security-groups",
					object{"security_group": object{"name": "drill-group"}}, nil))
			},
		},
	}
	for name, tc := range tests {
		osn := d.create(d.id+"-"+name, tc.spec)
		now := d.until(osn.Name, "is Failed", func(osn *osnodev1.OpenStackNode) bool { return osn.Status.Phase == osnodev1.PhaseFailed })
		d.condition(now, osnodev1.ConditionSpecResolved, metav1.ConditionFalse, osnodev1.ReasonInvalidSpec, tc.message)
		assert.Contains(d.t, now.Status.Description, tc.message)
		first := d.history.of(osn.UID)
		assert.Equal(d.t, osnodev1.PhaseFailed, first[0].Phase, "within one reconcile: %+v", first)
		d.told(osn, osnodev1.ReasonInvalidSpec, 1)
		assert.Empty(d.t, d.everMade(osn.UID))
		tc.mend()
		now = d.reaches(osn.Name, osnodev1.PhaseRunning)
		assert.Equal(d.t, osn.UID, now.UID)
		assert.Len(d.t, d.everMade(osn.UID), 1)
		assert.Nil(d.t, now.Status.LastError)
	}
	d.unreadable()
	d.t.Run("illegal", func(t *testing.T) { illegal(t, d) })
}

// unreadable is user data that cloud-init would not understand. It cannot be changed, so the node has to be made again.
func (d *drill) unreadable() {
	for name, data := range map[string]string{"text": "rm -rf /", "yaml": "#cloud-config\n{", "list": "#cloud-config\n- a\n"} {
		osn := d.create(d.id+"-"+name, func(osn *osnodev1.OpenStackNode) { osn.Spec.UserData = &data })
		now := d.reaches(osn.Name, osnodev1.PhaseFailed)
		d.condition(now, osnodev1.ConditionSpecResolved, metav1.ConditionFalse, osnodev1.ReasonInvalidSpec, "userData: ")
		assert.NotContains(d.t, now.Status.Description, "bootstrap")
		assert.Empty(d.t, d.everMade(osn.UID))
	}
}

// illegal is what the API server itself refuses.
func illegal(t *testing.T, d *drill) {
	tests := map[string]struct {
		change  func(*osnodev1.OpenStackNode)
		message string
	}{
		"dot in the name":      {func(o *osnodev1.OpenStackNode) { o.Name = "a.b" }, "the name must not contain a dot"},
		"long name":            {func(o *osnodev1.OpenStackNode) { o.Name = strings.Repeat("a", 50) }, "the name must have at most 49 characters"},
		"capitals in the name": {func(o *osnodev1.OpenStackNode) { o.Name = "Node" }, "RFC 1123"},
		"policy":               {func(o *osnodev1.OpenStackNode) { o.Spec.Policy = "open" }, `Unsupported value: "open"`},
		"no flavor":            {func(o *osnodev1.OpenStackNode) { o.Spec.Flavor = "" }, "spec.flavor"},
		"id and name of an image": {
			func(o *osnodev1.OpenStackNode) { o.Spec.Image = &osnodev1.ImageReference{ID: new("x"), Name: "y"} }, "give the image's id or its name",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			osn := d.wish("x1-illegal")
			tc.change(osn)
			err := d.user.Create(t.Context(), osn)
			require.True(t, apierrors.IsInvalid(err), "%v", err)
			assert.ErrorContains(t, err, tc.message)
		})
	}
}
