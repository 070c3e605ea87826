// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cloudveneto/caas/internal/service"
	"github.com/cloudveneto/caas/osnode/bootstrap"
	"github.com/cloudveneto/caas/osnode/controller"
	"github.com/cloudveneto/caas/osnode/openstack"
)

// file is the configuration file.
type file struct {
	// Cluster names this cluster in OpenStack. Machines that have another name in their
	// metadata are never touched.
	Cluster string `json:"cluster"`
	// DefaultProvider is for nodes whose spec names none.
	DefaultProvider string `json:"defaultProvider"`
	// Providers are the OpenStack clouds.
	Providers []openstack.Provider `json:"providers"`
	// Bootstrap is how machines join.
	Bootstrap bootstrapFile `json:"bootstrap"`
	// Workers is how many nodes are worked on at a time.
	Workers int `json:"workers,omitempty"`
	// Timers change how long things may take, by name, such as join: 20m.
	Timers map[string]string `json:"timers,omitempty"`
	// Usage says what is counted.
	Usage usageFile `json:"usage,omitzero"`
	// ExternalGRPC serves the stock cluster-autoscaler.
	ExternalGRPC *externalGRPCFile `json:"externalGRPC,omitempty"`
	// QPS and Burst limit requests to the cluster; -1, the default, is no limit of the
	// controller's own.
	QPS   float32 `json:"qps,omitempty"`
	Burst int     `json:"burst,omitempty"`

	timers controller.Timers
}

// bootstrapFile is bootstrap.Settings with files in place of their contents.
type bootstrapFile struct {
	bootstrap.Settings

	// CAFile has the certificate authority of the API server.
	CAFile string `json:"caFile,omitempty"`
	// ExtraUserDataFile has the site's own part of the user data.
	ExtraUserDataFile string `json:"extraUserDataFile,omitempty"`
}

type usageFile struct {
	// StoppedCounts makes machines count that are stopped.
	StoppedCounts bool `json:"stoppedCounts,omitempty"`
}

type externalGRPCFile struct {
	// Listen is host:port.
	Listen string `json:"listen"`
	// CertFile and KeyFile are the server's, ClientCAFile is whom the autoscaler's
	// certificate must be from.
	CertFile     string `json:"certFile"`
	KeyFile      string `json:"keyFile"`
	ClientCAFile string `json:"clientCAFile"`
}

// load reads the file and reports all that is wrong with it.
func load(path string) (*file, error) {
	settings := &file{}
	return service.ReadConfig(path, settings, func() error {
		return errors.Join(settings.complete(), settings.validate())
	})
}

// complete reads the files that the configuration names.
func (f *file) complete() error {
	var problems []error
	into := func(field string, target *string, path string) {
		if path == "" {
			return
		}
		if *target != "" {
			problems = append(problems, fmt.Errorf("%s: the text is given, too", field))
			return
		}
		content, err := os.ReadFile(filepath.Clean(path))
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: %w", field, err))
		}
		*target = string(content)
	}
	into("bootstrap.caFile", &f.Bootstrap.CAData, f.Bootstrap.CAFile)
	into("bootstrap.extraUserDataFile", &f.Bootstrap.ExtraUserData, f.Bootstrap.ExtraUserDataFile)
	if f.QPS == 0 {
		f.QPS = -1
	}
	if f.DefaultProvider == "" && len(f.Providers) == 1 {
		f.DefaultProvider = f.Providers[0].ID
	}
	return errors.Join(problems...)
}

func (f *file) validate() error {
	var problems []error
	if len(validation.IsValidLabelValue(f.Cluster)) > 0 || f.Cluster == "" {
		problems = append(problems, fmt.Errorf("cluster: %q: want a name of letters, digits, dots and dashes; it marks this cluster's machines in OpenStack", f.Cluster))
	}
	if !slices.ContainsFunc(f.Providers, func(p openstack.Provider) bool { return p.ID == f.DefaultProvider }) {
		problems = append(problems, fmt.Errorf("defaultProvider: %q is not the id of a provider", f.DefaultProvider))
	}
	if err := f.Bootstrap.Validate(); err != nil {
		problems = append(problems, fmt.Errorf("bootstrap: %w", err))
	}
	if f.QPS > 0 && f.Burst < 1 {
		problems = append(problems, fmt.Errorf("burst: %d: must be positive when qps is", f.Burst))
	}
	if g := f.ExternalGRPC; g != nil && slices.Contains([]string{g.Listen, g.CertFile, g.KeyFile, g.ClientCAFile}, "") {
		problems = append(problems, errors.New("externalGRPC: listen, certFile, keyFile and clientCAFile are required: whoever may call it makes machines"))
	}
	return errors.Join(append(problems, f.parseTimers(), f.tryCloud())...)
}

// tryCloud finds what is wrong with the providers; nobody is asked.
func (f *file) tryCloud() error {
	cloud, err := openstack.New(openstack.Config{Cluster: f.Cluster, Providers: f.Providers})
	if err != nil {
		return err
	}
	cloud.Close()
	return nil
}

// parseTimers reads the durations by the names of controller.Timers' fields.
func (f *file) parseTimers() error {
	fields := map[string]*time.Duration{
		"create": &f.timers.Create, "join": &f.timers.Join, "tokenMargin": &f.timers.TokenMargin, "settle": &f.timers.Settle,
		"pollCreating": &f.timers.PollCreating, "pollSlow": &f.timers.PollSlow, "slowAfter": &f.timers.SlowAfter,
		"pollRunning": &f.timers.PollRunning, "ageCreating": &f.timers.AgeCreating, "ageRunning": &f.timers.AgeRunning,
		"notReadyGrace": &f.timers.NotReadyGrace, "drain": &f.timers.Drain, "drainForced": &f.timers.DrainForced,
		"drainUnready": &f.timers.DrainUnready, "detach": &f.timers.Detach, "deleteAgain": &f.timers.DeleteAgain,
		"retryFirst": &f.timers.RetryFirst, "retryMost": &f.timers.RetryMost,
		"quotaFirst": &f.timers.QuotaFirst, "quotaMost": &f.timers.QuotaMost,
		"hostFirst": &f.timers.HostFirst, "hostMost": &f.timers.HostMost,
		"recheck": &f.timers.Recheck, "authorization": &f.timers.Authorization,
		"collect": &f.timers.Collect, "orphanAge": &f.timers.OrphanAge, "emptyGrace": &f.timers.EmptyGrace,
	}
	var problems []error
	for name, text := range f.Timers {
		target, known := fields[name]
		if !known {
			problems = append(problems, fmt.Errorf("timers.%s: there is no such timer", name))
			continue
		}
		value, err := time.ParseDuration(text)
		if err != nil || value <= 0 {
			problems = append(problems, fmt.Errorf("timers.%s: %q: want a duration such as 10m", name, text))
			continue
		}
		*target = value
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(problems...)
}
