// SPDX-License-Identifier: Apache-2.0

package openstack_test

import (
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/openstack"
	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

func TestResolve(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change  func(r rig, wanted *cloud.Wanted)
		class   cloud.Class
		message string
	}{
		"everything":       {},
		"flavor unknown":   {change: func(_ rig, w *cloud.Wanted) { w.Flavor = "none" }, class: cloud.InvalidSpec, message: `flavor "none"`},
		"image unknown":    {change: func(_ rig, w *cloud.Wanted) { w.ImageName = "none" }, class: cloud.InvalidSpec, message: `image "none"`},
		"image id unknown": {change: func(_ rig, w *cloud.Wanted) { w.ImageID = "none" }, class: cloud.InvalidSpec, message: `"none"`},
		"image missing":    {change: func(_ rig, w *cloud.Wanted) { w.ImageName = "" }, class: cloud.InvalidSpec, message: "No image"},
		"image twice": {change: func(r rig, w *cloud.Wanted) {
			r.fake.AddImage(w.ImageName, "active")
		}, class: cloud.AmbiguousReference, message: "several"},
		"image once active": {change: func(r rig, w *cloud.Wanted) { r.fake.AddImage(w.ImageName, "deactivated") }},
		"image by id":       {change: func(r rig, w *cloud.Wanted) { w.ImageID = r.fake.AddImage("other", "active") }},
		"image by id not active": {change: func(r rig, w *cloud.Wanted) {
			w.ImageID = r.fake.AddImage("other", "queued")
		}, class: cloud.InvalidSpec, message: "queued"},
		"key pair unknown":        {change: func(_ rig, w *cloud.Wanted) { w.KeyPair = "none" }, class: cloud.InvalidSpec, message: `"none"`},
		"key pair of another":     {change: func(_ rig, w *cloud.Wanted) { w.KeyPair = "my-key" }, class: cloud.InvalidSpec, message: `"my-key"`},
		"no key pair":             {change: func(_ rig, w *cloud.Wanted) { w.KeyPair = "" }},
		"security group unknown":  {change: func(_ rig, w *cloud.Wanted) { w.SecurityGroups = []string{"none"} }, class: cloud.InvalidSpec, message: `security group "none"`},
		"security group twice":    {change: func(r rig, _ *cloud.Wanted) { r.fake.AddGroup(r.lab.QST, "K8S") }, class: cloud.AmbiguousReference, message: "several security groups"},
		"security group in other": {change: func(r rig, _ *cloud.Wanted) { r.fake.AddGroup(r.lab.CMS, "K8S") }},
		"network twice": {change: func(r rig, _ *cloud.Wanted) {
			r.fake.AddNetwork(r.lab.QST, "QST-lan", netip.MustParsePrefix("10.0.0.0/24"))
		}, class: cloud.AmbiguousReference, message: "several networks"},
		"no trust": {change: func(r rig, _ *cloud.Wanted) { r.fake.DropTrusts(r.lab.Lisa) }, class: cloud.NoTrust},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, setup{})
			wanted := cloud.Wanted{Flavor: r.lab.GPU, ImageName: r.lab.Image, KeyPair: "Lisa", SecurityGroups: []string{"K8S", "K8S"}}
			if test.change != nil {
				test.change(r, &wanted)
			}
			resolved, err := r.Resolve(t.Context(), r.owner, wanted)
			require.Equal(t, test.class, cloud.ClassOf(err), "%v", err)
			if err != nil {
				assert.ErrorContains(t, err, test.message)
				assert.Equal(t, cloud.Resolved{}, resolved)
				return
			}
			assert.NotEmpty(t, resolved.ImageID)
			assert.Len(t, resolved.NetworkIDs, 1)
			assert.Len(t, resolved.SecurityGroupIDs, 1)
			id := resolved.Flavor.ID
			assert.NotEmpty(t, id)
			assert.Equal(t, cloud.Flavor{
				ID: id, Name: r.lab.GPU, VCPUs: 50, MemoryMiB: 254976, RootGiB: 25, EphemeralGiB: 500, GPUs: 1, GPU: "a100",
			}, resolved.Flavor)
		})
	}
}

func TestReferencesAreRemembered(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{provider: func(_ rig, p *openstack.Provider) {
		p.Cache.References = metav1.Duration{Duration: time.Hour}
		p.Cache.Trusts = metav1.Duration{Duration: time.Hour}
	}})
	request := r.request(t, "osn-01", "uid-1")
	before := len(r.faults.Calls())
	r.request(t, "osn-02", "uid-2")
	assert.Len(t, r.faults.Calls(), before, "the second node costs nothing")
	request.Resolved.ImageID = "gone"
	_, err := r.Create(t.Context(), r.owner, request)
	assert.True(t, cloud.Is(err, cloud.InvalidSpec), "%v", err)
	r.request(t, "osn-03", "uid-3")
	assert.Greater(t, len(r.faults.Calls()), before+3, "what Nova refused is looked for again")
}

func TestNewFlavorIsSeen(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{})
	_, err := r.Flavor(t.Context(), r.owner, "new")
	require.True(t, cloud.Is(err, cloud.InvalidSpec))
	r.fake.AddFlavor(openstacktest.Flavor{Name: "new", VCPUs: 1})
	flavor, err := r.Flavor(t.Context(), r.owner, "new")
	require.NoError(t, err)
	assert.Equal(t, 1, flavor.VCPUs)
}

func TestAcceleration(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		specs   map[string]string
		aliases []string
		gpu     string
		gpus    int
	}{
		"none":           {specs: map[string]string{"hw:cpu_policy": "dedicated"}},
		"pci":            {specs: map[string]string{"pci_passthrough:alias": "a100:2"}, gpu: "a100", gpus: 2},
		"pci without n":  {specs: map[string]string{"pci_passthrough:alias": "t4"}, gpu: "t4", gpus: 1},
		"not a gpu":      {specs: map[string]string{"pci_passthrough:alias": "nvme:4"}, aliases: []string{"a100"}},
		"gpu and nvme":   {specs: map[string]string{"pci_passthrough:alias": "nvme:4, a100:1"}, aliases: []string{"a100"}, gpu: "a100", gpus: 1},
		"vgpu":           {specs: map[string]string{"resources:VGPU": "1"}, gpu: "vgpu", gpus: 1},
		"numbered group": {specs: map[string]string{"resources1:PGPU": "3"}, gpu: "pgpu", gpus: 3},
		"custom class":   {specs: map[string]string{"resources:CUSTOM_GPU_A30": "1"}, gpu: "gpu_a30", gpus: 1},
		"other class":    {specs: map[string]string{"resources:CUSTOM_FPGA": "1"}},
		"nonsense":       {specs: map[string]string{"pci_passthrough:alias": "a100:many", "resources:VGPU": "-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, setup{provider: func(_ rig, p *openstack.Provider) { p.GPUAliases = test.aliases }})
			r.fake.AddFlavor(openstacktest.Flavor{Name: "f", VCPUs: 1, Specs: test.specs})
			flavor, err := r.Flavor(t.Context(), r.owner, "f")
			require.NoError(t, err)
			assert.Equal(t, test.gpu, flavor.GPU)
			assert.Equal(t, test.gpus, flavor.GPUs)
		})
	}
}

func TestSecurityGroupIsMade(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{provider: func(_ rig, p *openstack.Provider) {
		p.SecurityGroups = openstack.SecurityGroups{
			Create: true, Names: []string{"NODES", "K8S"}, ControlPlaneCIDRs: []string{"10.88.0.0/24", "fd00::/64"},
			SSHCIDRs: []string{"10.1.0.0/16"}, NodePortCIDRs: []string{"10.2.0.0/16"}, Overlay: openstack.Overlay{CIDRs: []string{"10.88.0.0/16"}},
		}
	}})
	resolve := func(group string) error {
		wanted := cloud.Wanted{Flavor: r.lab.Medium, ImageName: r.lab.Image, SecurityGroups: []string{group}}
		_, err := r.Resolve(t.Context(), r.owner, wanted)
		return err
	}
	// The first rule fails, and is added at the next time.
	r.faults.Add(openstacktest.Rule{
		Match: openstacktest.Match{Method: "POST", Path: "/security-group-rules"}, Skip: 2, Times: 1,
		Answer: &openstacktest.Answer{Status: 500},
	})
	require.Error(t, resolve("NODES"))
	_, rules, ok := r.fake.Group(r.lab.QST, "NODES")
	require.True(t, ok)
	assert.Equal(t, 2, rules)
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() { assert.NoError(t, resolve("NODES")) })
	}
	group.Wait()
	description, rules, ok := r.fake.Group(r.lab.QST, "NODES")
	require.True(t, ok, "there is one, and only one")
	assert.Equal(t, 2+2+1+1+2, rules)
	assert.Contains(t, description, "caas")

	require.NoError(t, resolve("K8S"))
	_, rules, _ = r.fake.Group(r.lab.QST, "K8S")
	assert.Zero(t, rules, "a group that somebody else made is not changed")
	err := resolve("OTHER")
	assert.True(t, cloud.Is(err, cloud.InvalidSpec), "only the named groups are made: %v", err)
}

func TestQuota(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{})
	request := r.request(t, "osn-01", "uid-1")
	r.fake.SetQuota(r.lab.QST, openstacktest.Quota{Cores: 20, Instances: 1, MemoryMiB: -1})
	_, err := r.Create(t.Context(), r.owner, request)
	require.NoError(t, err)
	quota, err := r.Quota(t.Context(), r.owner)
	require.NoError(t, err)
	assert.Equal(t, cloud.Quota{
		Cores: cloud.Amount{Limit: 20, Used: 2}, Instances: cloud.Amount{Limit: 1, Used: 1}, MemoryMiB: cloud.Amount{Limit: -1, Used: 4096},
	}, quota)
	_, err = r.Create(t.Context(), r.owner, r2(request, "osn-02", "uid-2"))
	assert.True(t, cloud.Is(err, cloud.QuotaExceeded), "%v", err)
	assert.ErrorContains(t, err, "already used 1 of 1 instances")
}
