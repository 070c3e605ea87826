// SPDX-License-Identifier: Apache-2.0

package openstack_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/osnode/cloud"
	"github.com/cloudveneto/caas/osnode/openstack"
	"github.com/cloudveneto/caas/osnode/openstack/openstacktest"
)

// TestAnswersToCreate has services' own bodies for what can go wrong when a server is made.
func TestAnswersToCreate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status int
		body   string
		header http.Header
		class  cloud.Class
		text   string
		wait   time.Duration
	}{
		"nova quota":       {403, `{"forbidden": {"code": 403, "message": "Quota exceeded for cores: Requested 4, but already used 20 of 20 cores"}}`, nil, cloud.QuotaExceeded, "20 of 20 cores", 0},
		"nova ports":       {403, `{"forbidden": {"code": 403, "message": "Maximum number of ports exceeded"}}`, nil, cloud.QuotaExceeded, "ports", 0},
		"nova 413":         {413, `{"overLimit": {"code": 413, "message": "Quota exceeded for instances: Requested 1"}}`, nil, cloud.QuotaExceeded, "instances", 0},
		"cinder gigabytes": {413, `{"overLimit": {"code": 413, "message": "VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota."}}`, nil, cloud.QuotaExceeded, "gigabytes", 0},
		"rate limit 413":   {413, `{"overLimit": {"code": 413, "message": "This request was rate-limited."}}`, http.Header{"Retry-After": {"7"}}, cloud.Throttled, "rate-limited", 7 * time.Second},
		"neutron quota":    {409, `{"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: ['port'].", "detail": ""}}`, nil, cloud.QuotaExceeded, "port", 0},
		"neutron words":    {409, `{"NeutronError": {"type": "OverQuota", "message": "No more ports.", "detail": ""}}`, nil, cloud.QuotaExceeded, "No more ports", 0},
		"policy":           {403, `{"forbidden": {"code": 403, "message": "Policy doesn't allow os_compute_api:servers:create to be performed."}}`, nil, cloud.OwnerAuthorizationLost, "Policy", 0},
		"bad flavor":       {400, `{"badRequest": {"code": 400, "message": "Flavor x could not be found."}}`, nil, cloud.InvalidSpec, "Flavor x", 0},
		"not found":        {404, `{"itemNotFound": {"code": 404, "message": "Image gone."}}`, nil, cloud.InvalidSpec, "Image gone", 0},
		"networks":         {409, `{"conflictingRequest": {"code": 409, "message": "Multiple possible networks found, use a Network ID to be more specific."}}`, nil, cloud.AmbiguousReference, "Multiple possible networks", 0},
		"groups":           {409, `{"conflictingRequest": {"code": 409, "message": "Multiple security_group matches found for name 'K8S', use an ID to be more specific."}}`, nil, cloud.AmbiguousReference, "K8S", 0},
		"groups in 400":    {400, `{"badRequest": {"code": 400, "message": "Multiple security groups found matching 'K8S'. Use an ID to be more specific."}}`, nil, cloud.AmbiguousReference, "K8S", 0},
		"other conflict":   {409, `{"conflictingRequest": {"code": 409, "message": "Port is in use"}}`, nil, cloud.Unclassified, "Port", 0},
		"throttled":        {429, `{"error": {"code": 429, "message": "slow down"}}`, http.Header{"Retry-After": {"30"}}, cloud.Throttled, "slow down", 30 * time.Second},
		"overloaded":       {503, `<html><head><title>x</title></head><body><h1>503 Service Unavailable</h1></body></html>`, nil, cloud.Unavailable, "503 Service Unavailable", 0},
		"broken":           {500, `{"computeFault": {"code": 500, "message": "Unexpected API Error."}}`, nil, cloud.Unavailable, "Unexpected API Error", 0},
		"gateway":          {502, ``, nil, cloud.Unavailable, "502", 0},
		"teapot":           {418, ``, nil, cloud.Unclassified, "418", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, setup{})
			request := r.request(t, "osn-01", "uid-1")
			r.faults.Add(openstacktest.Rule{
				Match:  openstacktest.Match{Method: "POST", Path: "/servers$"},
				Answer: &openstacktest.Answer{Status: test.status, Body: test.body, Header: test.header},
			})
			_, err := r.Create(t.Context(), r.owner, request)
			assert.Equal(t, test.class, cloud.ClassOf(err), "%v", err)
			require.ErrorContains(t, err, test.text)
			assert.NotContains(t, err.Error(), "<")
			assert.Equal(t, test.wait, cloud.RetryAfter(err))
			assert.Equal(t, 1, r.faults.Count(openstacktest.Match{Method: "POST", Path: "/servers$"}), "asked once")
		})
	}
}

func TestAnswersToReading(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status, calls int
		header        http.Header
		class         cloud.Class
	}{
		"not found":             {404, 1, nil, cloud.NotFound},
		"overloaded":            {503, 4, nil, cloud.Throttled},
		"overloaded for long":   {503, 1, http.Header{"Retry-After": {"60"}}, cloud.Throttled},
		"throttled":             {429, 1, http.Header{"Retry-After": {"60"}}, cloud.Throttled},
		"broken, tried again":   {500, 4, nil, cloud.Unavailable},
		"forbidden by a policy": {403, 1, nil, cloud.OwnerAuthorizationLost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, setup{})
			path := openstacktest.Match{Path: "/limits"}
			r.faults.Add(openstacktest.Rule{Match: path, Answer: &openstacktest.Answer{Status: test.status, Header: test.header}})
			_, err := r.Quota(t.Context(), r.owner)
			assert.Equal(t, test.class, cloud.ClassOf(err), "%v", err)
			assert.Equal(t, test.calls, r.faults.Count(path))
			if test.header == nil {
				return
			}
			assert.InDelta(t, time.Minute, cloud.RetryAfter(err), float64(2*time.Second))
			_, err = r.Find(t.Context(), r.owner, "x", "y")
			assert.True(t, cloud.Is(err, cloud.Throttled), "the whole project waits: %v", err)
			assert.Positive(t, cloud.RetryAfter(err))
			other := r.owner
			other.ProjectID, other.ProjectName = r.lab.CMS, "CMS"
			_, err = r.Find(t.Context(), other, "x", "y")
			assert.NoError(t, err, "the others do not")
		})
	}
}

func TestStumblesAreRepeated(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{})
	made, err := r.Create(t.Context(), r.owner, r.request(t, "osn-01", "uid-1"))
	require.NoError(t, err)
	r.faults.Add(openstacktest.Rule{Match: openstacktest.Match{Method: "GET", Path: "/servers/"}, Times: 1, Cut: true})
	r.faults.Add(openstacktest.Rule{Match: openstacktest.Match{Method: "DELETE"}, Times: 1, Forward: true, Answer: &openstacktest.Answer{Status: 503}})
	require.NoError(t, r.Delete(t.Context(), r.owner, made.ID), "the second try finds nothing, which is right")
	assert.Empty(t, r.fake.Servers(""))
}

func TestLostAnswerOfCreate(t *testing.T) {
	t.Parallel()
	for name, rule := range map[string]openstacktest.Rule{
		"503 after all": {Forward: true, Answer: &openstacktest.Answer{Status: 503}},
		"cut":           {Forward: true, Cut: true},
		"half a body":   {Forward: true, Answer: &openstacktest.Answer{Status: 202, Body: `{"server": {"id`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, setup{})
			request := r.request(t, "osn-01", "uid-1")
			rule.Match = openstacktest.Match{Method: "POST", Path: "/servers$"}
			r.faults.Add(rule)
			_, err := r.Create(t.Context(), r.owner, request)
			assert.True(t, cloud.Is(err, cloud.Unavailable), "%v", err)
			found, err := r.Find(t.Context(), r.owner, "osn-01", "uid-1")
			require.NoError(t, err)
			assert.Len(t, found, 1, "it is there all the same, once")
		})
	}
}

func TestSilence(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{provider: func(_ rig, p *openstack.Provider) { p.Timeout.Duration = 3 * time.Second }})
	_, err := r.Quota(t.Context(), r.owner)
	require.NoError(t, err)
	r.faults.Add(openstacktest.Rule{Match: openstacktest.Match{Path: "/limits"}, Delay: time.Minute})
	_, err = r.Quota(t.Context(), r.owner)
	assert.True(t, cloud.Is(err, cloud.Unavailable), "a call has a deadline of its own: %v", err)
}

func TestSilenceEndsWithTheCaller(t *testing.T) {
	t.Parallel()
	r := newRig(t, setup{provider: func(_ rig, p *openstack.Provider) { p.Timeout.Duration = 5 * time.Second }})
	_, err := r.Quota(t.Context(), r.owner)
	require.NoError(t, err)
	r.faults.Add(openstacktest.Rule{Match: openstacktest.Match{Path: "/limits"}, Delay: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	start := time.Now()
	_, err = r.Quota(ctx, r.owner)
	assert.True(t, cloud.Is(err, cloud.Unavailable), "%v", err)
	assert.Less(t, time.Since(start), 5*time.Second, "sooner than the call's own deadline")
}
