// SPDX-License-Identifier: Apache-2.0

//go:build bench

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/cloudveneto/caas/internal/bench"
	"github.com/cloudveneto/caas/multitenancy/tenant"
	"github.com/cloudveneto/caas/test/property/site"
)

const eventWait = 30 * time.Second

func runProxy(ctx context.Context, o *options, report *bench.Report) error {
	w, err := newWorld(ctx, o, false)
	if err != nil {
		return err
	}
	err = o.proxy(ctx, w, report)
	return errors.Join(err, w.close())
}

func (o *options) proxy(ctx context.Context, w *world, report *bench.Report) error {
	if _, err := w.StartProgram(ctx, site.Proxy); err != nil {
		return err
	}
	direct, errDirect := clientset(w.As("alice"))
	proxied, errProxied := clientset(w.throughProxy("alice"))
	if err := errors.Join(errDirect, errProxied); err != nil {
		return err
	}
	if err := o.proxiedRequests(ctx, direct, proxied, report); err != nil {
		return err
	}
	if err := o.watches(ctx, w, direct, proxied, report); err != nil {
		return err
	}
	pid, err := w.PID(site.Proxy)
	if err != nil {
		return err
	}
	memory, err := resident(pid)
	if err != nil {
		return err
	}
	report.Add("proxy: memory", memory/mebibyte, "MiB", bench.Lower)
	return nil
}

// throughProxy is the client configuration of who has a token and uses the proxy.
func (w *world) throughProxy(token string) *rest.Config {
	config := w.As(token)
	config.Host = "https://" + w.Address(site.Proxy)
	config.TLSClientConfig = rest.TLSClientConfig{CAFile: w.Path("ca.crt")}
	return config
}

func selectVisible() metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: tenant.LabelVisibleTo + " in (" + alice + "," + tenant.VisibleToProject + ")"}
}

// proxiedRequests compares lists without a selector through the proxy with direct ones that have it, in turns.
func (o *options) proxiedRequests(ctx context.Context, direct, proxied *kubernetes.Clientset, report *bench.Report) error {
	list := func(client *kubernetes.Clientset, options metav1.ListOptions) error {
		found, err := client.CoreV1().ConfigMaps(own).List(ctx, options)
		if err == nil && len(found.Items) != ofAlice {
			err = fmt.Errorf("the list has %d objects", len(found.Items))
		}
		return err
	}
	get := func(client *kubernetes.Clientset) error {
		_, err := client.CoreV1().ConfigMaps(own).Get(ctx, numbered(0), metav1.GetOptions{})
		return err
	}
	for _, one := range []struct {
		name               string
		viaProxy, directly func() error
	}{
		{
			fmt.Sprintf("LIST %d of %d", ofAlice, inOwn),
			func() error { return list(proxied, metav1.ListOptions{}) }, func() error { return list(direct, selectVisible()) },
		},
		{"GET", func() error { return get(proxied) }, func() error { return get(direct) }},
	} {
		var via, without times
		for range o.requests {
			if err := errors.Join(via.timed(one.viaProxy), without.timed(one.directly)); err != nil {
				return fmt.Errorf("%s: %w", one.name, err)
			}
		}
		without.add(report, "proxy: "+one.name+" directly")
		via.add(report, "proxy: "+one.name+" through the proxy")
		report.Add("proxy: "+one.name+" through the proxy to directly: p50", via.at(50)/without.at(50), "×", bench.Lower)
	}
	return nil
}

// watches compares how soon a change is seen by a direct watch and by one through the proxy.
func (o *options) watches(ctx context.Context, w *world, direct, proxied *kubernetes.Clientset, report *bench.Report) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	directly, errDirectly := follow(ctx, direct, selectVisible())
	via, errVia := follow(ctx, proxied, metav1.ListOptions{})
	if err := errors.Join(errDirectly, errVia); err != nil {
		return err
	}
	var seenDirectly, seenVia times
	for n := range o.requests {
		mark := fmt.Sprintf("mark-%d", n)
		patch := fmt.Appendf(nil, `{"data":{"mark":%q}}`, mark)
		began := time.Now()
		if _, err := w.admin.CoreV1().ConfigMaps(own).Patch(ctx, numbered(0), types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
			return err
		}
		first, errFirst := await(ctx, directly, mark)
		second, errSecond := await(ctx, via, mark)
		if err := errors.Join(errFirst, errSecond); err != nil {
			return err
		}
		seenDirectly, seenVia = append(seenDirectly, first.Sub(began)), append(seenVia, second.Sub(began))
	}
	seenDirectly.add(report, "proxy: a change seen by a direct watch")
	seenVia.add(report, "proxy: a change seen by a watch through the proxy")
	report.Add("proxy: what the proxy adds to a watch: p50", seenVia.at(50)-seenDirectly.at(50), "ms", bench.Lower)
	return nil
}

// sight is when a watch said what.
type sight struct {
	mark string
	at   time.Time
}

func follow(ctx context.Context, client *kubernetes.Clientset, options metav1.ListOptions) (<-chan sight, error) {
	watched, err := client.CoreV1().ConfigMaps(own).Watch(ctx, options)
	if err != nil {
		return nil, err
	}
	sights := make(chan sight, inOwn)
	go func() {
		defer close(sights)
		for event := range watched.ResultChan() {
			now := time.Now()
			if mark := markOf(event.Object); mark != "" {
				sights <- sight{mark, now}
			}
		}
	}()
	return sights, nil
}

func await(ctx context.Context, sights <-chan sight, mark string) (time.Time, error) {
	timer := time.NewTimer(eventWait)
	defer timer.Stop()
	for {
		select {
		case one, open := <-sights:
			if !open {
				return time.Time{}, errors.New("the watch has ended")
			}
			if one.mark == mark {
				return one.at, nil
			}
		case <-timer.C:
			return time.Time{}, fmt.Errorf("%s was not seen", mark)
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}

func markOf(object runtime.Object) string {
	if one, ok := object.(*corev1.ConfigMap); ok {
		return one.Data["mark"]
	}
	return ""
}
