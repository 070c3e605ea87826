// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cloudveneto/caas/sidecar/clients"
	"github.com/cloudveneto/caas/sidecar/plugin"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
	"github.com/cloudveneto/caas/sidecar/plugin/watch"
)

// access says how the target cluster is reached, and as whom.
type access struct {
	// Kubeconfig is a file; empty for the credentials of the pod it runs in.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// Context is a context of the kubeconfig; empty for its current one.
	Context string `json:"context,omitempty"`
	// Impersonate is who the sidecar is there in place of whom it logs in as.
	Impersonate *impersonation `json:"impersonate,omitempty"`
}

// impersonation is a user of the target cluster.
type impersonation struct {
	User   string              `json:"user"`
	UID    string              `json:"uid,omitempty"`
	Groups []string            `json:"groups,omitempty"`
	Extra  map[string][]string `json:"extra,omitempty"`
}

// clientFile is what the file says of one client. A section that it does not give is the file's own, as a whole.
type clientFile struct {
	access

	Namespace    *plugin.NamespaceRule    `json:"namespace,omitempty"`
	Selector     *string                  `json:"selector,omitempty"`
	VisibleNodes *string                  `json:"visibleNodes,omitempty"`
	Policy       *translate.Policy        `json:"policy,omitempty"`
	Capacity     *plugin.CapacitySettings `json:"capacity,omitempty"`
	Share        corev1.ResourceList      `json:"share,omitempty"`
}

// served is all that counts for one client.
type served struct {
	// name is empty when the file tells no clients apart.
	name     string
	access   access
	settings plugin.Settings
	origins  watch.Origins
}

// problem says whose an error is.
func (s *served) problem(err error) error {
	if err == nil || s.name == "" {
		return err
	}
	return fmt.Errorf("clients[%s]: %w", s.name, err)
}

// served are the clients of the file, whose settings are complete, and all problems of them.
func (f *file) served() ([]served, []error) {
	if f.Clients == nil {
		all := served{access: f.access, settings: f.Settings}
		return []served{all}, []error{all.settings.Complete(), f.access.validate("")}
	}
	if len(f.Clients) == 0 {
		return nil, []error{errors.New("clients: empty, so everybody would be refused")}
	}
	common := f.Settings
	if common.Namespace.Mode == "" { // each client has its own, or is told that it has none
		common.Namespace = plugin.NamespaceRule{Mode: plugin.NamespaceSame}
	}
	problems := []error{common.Complete(), f.access.validate("")}
	var all []served
	for _, name := range slices.Sorted(maps.Keys(f.Clients)) {
		one, err := f.client(name)
		all, problems = append(all, one), append(problems, err)
	}
	return all, problems
}

// client is one client's part of the file, over what is the file's own.
func (f *file) client(name string) (served, error) {
	place := "clients[" + name + "]."
	if name == "" {
		return served{}, fmt.Errorf("%s a name is missing; requests without one are those of %q", strings.TrimSuffix(place, "."), clients.Nameless)
	}
	own := f.Clients[name]
	if own == nil {
		own = &clientFile{}
	}
	one := served{name: name, access: own.over(f.access), settings: f.Settings, origins: f.origins(name)}
	given := map[string]bool{"namespace": f.Namespace.Mode == ""}
	use(given, "namespace", &one.settings.Namespace, own.Namespace)
	use(given, "policy", &one.settings.Policy, own.Policy)
	use(given, "capacity", &one.settings.Capacity, own.Capacity)
	if own.access != (access{}) {
		one.settings.Selector, one.settings.VisibleNodes = "", "" // they are the other identity's
	}
	use(given, "selector", &one.settings.Selector, own.Selector)
	use(given, "visibleNodes", &one.settings.VisibleNodes, own.VisibleNodes)
	if own.Share != nil {
		use(given, "share", &one.settings.Share, &own.Share)
	}
	return one, errors.Join(own.validate(place), one.settings.CompleteFrom(func(section string) string {
		if given[section] {
			return place + section
		}
		return section
	}))
}

// use puts what a client gives of a section in place of the file's own.
func use[T any](given map[string]bool, section string, settings, own *T) {
	if own != nil {
		*settings, given[section] = *own, true
	}
}

// over is how a client's target is reached: a kubeconfig or a context of its own brings its own user along.
func (a access) over(common access) access {
	switch {
	case a.Kubeconfig != "":
		return a
	case a.Context != "":
		a.Kubeconfig = common.Kubeconfig
		return a
	case a.Impersonate != nil:
		common.Impersonate = a.Impersonate
	}
	return common
}

func (a access) validate(place string) error {
	if a.Impersonate != nil && a.Impersonate.User == "" {
		return fmt.Errorf("%simpersonate.user: is required", place)
	}
	return nil
}

// origins are the clients whose pods are those of an entry.
func (f *file) origins(name string) watch.Origins {
	if name != clients.Others {
		return watch.Origins{Only: translate.OriginLabel(name)}
	}
	var named []string
	for other := range f.Clients {
		if other != clients.Others {
			named = append(named, translate.OriginLabel(other))
		}
	}
	slices.Sort(named)
	return watch.Origins{Except: named}
}

// distinct are the problems, each once: what clients inherit is wrong in one place only.
func distinct(problems []error) error {
	err := errors.Join(problems...)
	if err == nil {
		return nil
	}
	lines := strings.Split(err.Error(), "\n")
	var once []error
	for i, line := range lines {
		if !slices.Contains(lines[:i], line) {
			once = append(once, errors.New(line))
		}
	}
	return errors.Join(once...)
}
