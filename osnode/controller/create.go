// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
	"github.com/cloudveneto/caas/osnode/cloud"
)

// modeService is Authorize's answer when the machine will be the platform's own.
const modeService = "service"

// create goes through all that comes before a machine, if there is none. A machine that
// may have been asked for is looked for first. OpenStack can take a minute to take a request,
// so only some of the workers do this: there are always others for the objects that are new,
// that have their machine, or that are being deleted.
func (r *Reconciler) create(ctx context.Context, p *pass) (flow, error) {
	if p.osn.Status.Server != nil {
		return goOn, nil
	}
	waited, mine := r.turns.take(p.osn.UID, p.request, p.now)
	if !mine {
		p.in(turnDelay)
		return stop, nil
	}
	defer r.turns.leave()
	r.remember(p.osn.UID, func(m *memory) { m.queued += waited })
	for _, phase := range []phase{r.settle, r.mayTry, r.authorize, r.resolve, r.quota, r.token, r.launch} {
		next, err := phase(ctx, p)
		if err != nil || next == stop {
			return stop, err
		}
	}
	return stop, nil
}

// mayTry waits for the end of a back-off, and for people where only they can help.
func (r *Reconciler) mayTry(_ context.Context, p *pass) (flow, error) {
	if has(p.osn, osnodev1.ConditionServerReady, osnodev1.ReasonServerError) {
		if p.osn.Generation == find(p.osn, osnodev1.ConditionServerReady).ObservedGeneration {
			return stop, nil
		}
		p.osn.Status.LastError = nil
		p.drop(osnodev1.ConditionServerReady)
	}
	if wait := r.backOff(p); wait > 0 {
		p.in(wait)
		return stop, nil
	}
	return goOn, nil
}

func (r *Reconciler) authorize(ctx context.Context, p *pass) (flow, error) {
	var mode string
	err := r.timed(p, func() (err error) {
		mode, err = r.Cloud.Authorize(ctx, p.account)
		return err
	})
	if err != nil {
		r.refuse(p, osnodev1.ConditionOwnerAuthorized, err)
		return stop, nil
	}
	p.answered()
	reason, message := osnodev1.ReasonTrusted, "The owner has authorised the platform"
	if mode == modeService {
		reason, message = osnodev1.ReasonServiceMode, "The platform acts in its own name"
	}
	p.set(osnodev1.ConditionOwnerAuthorized, metav1.ConditionTrue, reason, message)
	return goOn, nil
}

// resolve finds OpenStack's ids, once for each generation of the spec.
func (r *Reconciler) resolve(ctx context.Context, p *pass) (flow, error) {
	known := find(p.osn, osnodev1.ConditionSpecResolved)
	if p.osn.Status.Resolved != nil && known != nil && known.Status == metav1.ConditionTrue &&
		known.ObservedGeneration == p.osn.Generation {
		return goOn, nil
	}
	var resolved cloud.Resolved
	err := r.timed(p, func() (err error) {
		resolved, err = r.Cloud.Resolve(ctx, p.account, wanted(p.osn, p.settings))
		return err
	})
	if err != nil {
		r.refuse(p, osnodev1.ConditionSpecResolved, err)
		return stop, nil
	}
	p.osn.Status.Resolved = &osnodev1.Resolved{
		FlavorID: resolved.Flavor.ID, ImageID: resolved.ImageID,
		NetworkIDs: resolved.NetworkIDs, SecurityGroupIDs: resolved.SecurityGroupIDs,
		VCPUs: int32(resolved.Flavor.VCPUs), MemoryMiB: int32(resolved.Flavor.MemoryMiB), //nolint:gosec // no flavor has that much
		GPUs: int32(resolved.Flavor.GPUs), GPU: resolved.Flavor.GPU, //nolint:gosec // as above
	}
	p.set(osnodev1.ConditionSpecResolved, metav1.ConditionTrue, osnodev1.ReasonResolved,
		"Flavor, image, key pair, security groups and networks have been found")
	return goOn, nil
}

func wanted(osn *osnodev1.OpenStackNode, settings cloud.Settings) cloud.Wanted {
	want := cloud.Wanted{
		AvailabilityZone: osn.Spec.AvailabilityZone, Flavor: osn.Spec.Flavor, KeyPair: osn.Spec.KeyPair,
		SecurityGroups: osn.Spec.SecurityGroups,
	}
	if image := osn.Spec.Image; image != nil {
		want.ImageName = image.Name
		if image.ID != nil {
			want.ImageID = *image.ID
		}
	}
	if want.ImageID == "" && want.ImageName == "" {
		want.ImageName = settings.ImageName
	}
	if disk := osn.Spec.RootDisk; disk != nil {
		want.RootDiskGiB, want.VolumeType = int(disk.SizeGiB), disk.VolumeType
	}
	return want
}

// quota does not ask for a machine that the project has no room for.
func (r *Reconciler) quota(ctx context.Context, p *pass) (flow, error) {
	var quota cloud.Quota
	err := r.timed(p, func() (err error) {
		quota, err = r.Cloud.Quota(ctx, p.account)
		return err
	})
	if err == nil {
		err = fits(quota, *p.osn.Status.Resolved)
	}
	if err != nil {
		r.refuse(p, osnodev1.ConditionQuotaAvailable, err)
		return stop, nil
	}
	p.set(osnodev1.ConditionQuotaAvailable, metav1.ConditionTrue, osnodev1.ReasonQuotaAvailable,
		"The project has room for the virtual machine")
	return goOn, nil
}

// fits returns a refusal that names the first limit that a machine does not fit under.
func fits(quota cloud.Quota, needs osnodev1.Resolved) error {
	for _, limit := range []struct {
		name, unit string
		amount     cloud.Amount
		need       int
	}{
		{"instances", "", quota.Instances, 1},
		{"cores", "", quota.Cores, int(needs.VCPUs)},
		{"memory", " MiB", quota.MemoryMiB, int(needs.MemoryMiB)},
	} {
		if free, limited := limit.amount.Free(); limited && free < limit.need {
			return &cloud.Error{Class: cloud.QuotaExceeded, Message: fmt.Sprintf("%s %d/%d%s used, %d needed",
				limit.name, limit.amount.Used, limit.amount.Limit, limit.unit, limit.need)}
		}
	}
	return nil
}
