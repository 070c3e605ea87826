// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cloudveneto/caas/internal/bench"
	"github.com/cloudveneto/caas/internal/lab/openstack"
)

const (
	// listEvery is how often the servers are asked after: what the controller does, too.
	listEvery = 2500 * time.Millisecond
	bareLimit = 20 * time.Minute
	failed    = "ERROR"
)

// outcome is how long something took.
type outcome struct{ made, deleted time.Duration }

// place is a project with what servers in it are made of.
type place struct {
	session *openstack.Session
	body    object
}

// server is what Nova says of one.
type server struct{ ID, Status string }

// bare makes servers that join nothing, by Nova's API alone and in their owners' names, and
// deletes them: what Nova itself can do on this machine.
func (r *genuine) bare(ctx context.Context, n int, report *bench.Report) (outcome, error) {
	places, err := r.places(ctx)
	if err != nil {
		return outcome{}, err
	}
	began := time.Now()
	ids, err := r.ask(ctx, places, n)
	if err != nil {
		return outcome{}, err
	}
	accepted := time.Since(began)
	if err := awaitServers(ctx, places, func(all []server) (bool, error) { return allActive(all, n) }); err != nil {
		return outcome{}, err
	}
	result := outcome{made: time.Since(began)}
	began = time.Now()
	if err := r.drop(ctx, places, ids); err != nil {
		return result, err
	}
	result.deleted = time.Since(began)
	name := fmt.Sprintf("%d bare servers at once", n)
	report.Add(name+", all accepted", accepted.Seconds(), "s", bench.Lower)
	report.Add(name+", all ACTIVE", result.made.Seconds(), "s", bench.Lower)
	report.Add(name+", rate", float64(n)/result.made.Seconds(), "servers/s", bench.Higher)
	report.Add(name+", all deleted", result.deleted.Seconds(), "s", bench.Lower)
	return result, nil
}

// allActive tells whether there are n servers and all are ACTIVE; one in error ends the measurement.
func allActive(all []server, n int) (bool, error) {
	found := 0
	for _, one := range all {
		switch one.Status {
		case "ACTIVE":
			found++
		case failed:
			return false, fmt.Errorf("server %s is in error", one.ID)
		}
	}
	return found == n && len(all) == n, nil
}

// drop deletes the servers and waits until they are gone. One that Nova has given up is asked for
// again, as the controller does.
func (r *genuine) drop(ctx context.Context, places []place, ids []string) error {
	group, deleting := errgroup.WithContext(ctx)
	group.SetLimit(r.options.nova.parallel)
	for i, id := range ids {
		group.Go(func() error { return places[i%len(places)].drop(deleting, id) })
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("delete servers: %w", err)
	}
	return awaitServers(ctx, places, func(all []server) (bool, error) {
		for _, one := range all {
			if one.Status != failed {
				continue
			}
			for _, at := range places {
				if err := at.drop(ctx, one.ID); err != nil {
					return false, err
				}
			}
		}
		return len(all) == 0, nil
	})
}

// drop deletes a server; it is no error that there is none.
func (p place) drop(ctx context.Context, id string) error {
	err := p.session.Do(ctx, http.MethodDelete, "compute", "/servers/"+id, nil, nil)
	if openstack.StatusOf(err) == http.StatusNotFound {
		return nil
	}
	return err
}

// ask asks for the servers, so many at a time.
func (r *genuine) ask(ctx context.Context, places []place, n int) ([]string, error) {
	ids := make([]string, n)
	group, asking := errgroup.WithContext(ctx)
	group.SetLimit(r.options.nova.parallel)
	for i := range ids {
		group.Go(func() error {
			at := places[i%len(places)]
			body := maps.Clone(at.body)
			body["name"] = fmt.Sprintf("bare-%d", i)
			var made struct{ Server server }
			err := at.session.Do(asking, http.MethodPost, "compute", "/servers", object{"server": body}, &made)
			ids[i] = made.Server.ID
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, fmt.Errorf("create servers: %w", err)
	}
	return ids, nil
}

// places logs in by the trusts, as the controller does, and finds what servers need.
func (r *genuine) places(ctx context.Context) ([]place, error) {
	var all []place
	for i, t := range r.tenants {
		session, err := r.site.LoginTrust(ctx, r.trusts[i])
		if err != nil {
			return nil, err
		}
		project, err := r.site.Project(t.projectName)
		if err != nil {
			return nil, err
		}
		image, err := named(ctx, session, "image", "/v2/images", "images", openstack.ImageAlmaLinux)
		if err != nil {
			return nil, err
		}
		flavor, err := named(ctx, session, "compute", "/flavors", "flavors", t.flavor)
		if err != nil {
			return nil, err
		}
		all = append(all, place{session: session, body: object{
			"imageRef": image, "flavorRef": flavor, "key_name": t.key, "networks": []object{{"uuid": project.NetworkID}},
			"security_groups": []object{{"name": "K8S"}},
		}})
	}
	return all, nil
}

// named is the id of the one thing of a name in a list.
func named(ctx context.Context, session *openstack.Session, service, path, list, name string) (string, error) {
	var answer map[string]json.RawMessage
	if err := session.Do(ctx, http.MethodGet, service, path, nil, &answer); err != nil {
		return "", err
	}
	var all []struct{ ID, Name string }
	if err := json.Unmarshal(answer[list], &all); err != nil {
		return "", fmt.Errorf("decode %s: %w", list, err)
	}
	for _, one := range all {
		if one.Name == name {
			return one.ID, nil
		}
	}
	return "", fmt.Errorf("none of the %s is called %s", list, name)
}

// awaitServers asks for all servers until they are as wanted.
func awaitServers(ctx context.Context, places []place, wanted func(all []server) (bool, error)) error {
	return await(ctx, bareLimit, listEvery, "the bare servers", func() (bool, error) {
		var all []server
		for _, at := range places {
			var list struct{ Servers []server }
			if err := at.session.Do(ctx, http.MethodGet, "compute", "/servers/detail", nil, &list); err != nil {
				return false, err
			}
			all = append(all, list.Servers...)
		}
		return wanted(all)
	})
}

// leftovers counts servers and ports in the whole of OpenStack, and what belongs to nodes in
// the cluster.
func (r *genuine) leftovers(ctx context.Context) (int, error) {
	admin, err := r.site.Admin(ctx)
	if err != nil {
		return 0, err
	}
	var servers struct{ Servers []server }
	if err := admin.Do(ctx, http.MethodGet, "compute", "/servers?all_tenants=1", nil, &servers); err != nil {
		return 0, err
	}
	var ports struct{ Ports []server }
	if err := admin.Do(ctx, http.MethodGet, "network", "/v2.0/ports", nil, &ports); err != nil {
		return 0, err
	}
	total := len(servers.Servers) + len(ports.Ports)
	objects, err := r.objects(ctx)
	for _, n := range objects {
		total += n
	}
	return total, err
}
