// SPDX-License-Identifier: Apache-2.0

package site

import (
	"context"
	"fmt"
	"os"

	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/openstack"
)

type object = map[string]any

// providerID is the cloud's name in the guide for users.
const providerID = "cloudveneto"

// writeSettings writes the controller's configuration.
func (s *Site) writeSettings(context.Context) error {
	bootstrap, err := s.bootstrap()
	if err != nil {
		return err
	}
	provider := object{
		"id": providerID, "displayName": "CloudVeneto", "authURL": s.Cloud.AuthURL(),
		"identity": object{"userName": openstack.ServiceUser, "passwordFile": s.Cloud.PasswordFile(openstack.ServiceUser), "project": "service"},
		"regions":  []string{s.Cloud.Region()},
		"defaults": object{
			"region": s.Cloud.Region(), "availabilityZone": "nova", "image": openstack.ImageAlmaLinux, "securityGroups": []string{"K8S"},
		},
		"networks":    []string{"{{.ProjectName}}-lan"},
		"configDrive": true,
	}
	if s.Provider != nil {
		s.Provider(provider)
	}
	settings := object{
		"cluster": "caas-" + s.Lab.Name(), "defaultProvider": providerID, "providers": []object{provider}, "bootstrap": bootstrap,
	}
	if s.Settings != nil {
		s.Settings(settings)
	}
	encoded, err := yaml.Marshal(settings)
	if err != nil {
		return fmt.Errorf("encode configuration: %w", err)
	}
	return wrap(os.WriteFile(s.file("controller.yaml"), encoded, 0o600), "write configuration")
}

// bootstrap says how machines join the cluster.
func (s *Site) bootstrap() (object, error) {
	cluster, err := s.Lab.Cluster(lab.CaaS)
	if err != nil {
		return nil, err
	}
	plane, err := cluster.ControlPlane()
	if err != nil {
		return nil, err
	}
	extra, err := userData()
	if err != nil {
		return nil, err
	}
	return object{
		"server": cluster.InsideServer(), "caFile": plane.CAFile(), "clusterDNS": []string{cluster.DNS()},
		"mirrors":       object{"_default": object{"server": "http://" + s.Lab.Registry(), "hosts": []string{"http://" + s.Lab.Registry()}}},
		"kubeProxy":     object{"mode": "nftables", "clusterCIDR": cluster.PodCIDR(), "conntrack": object{"maxPerCore": 0}},
		"extraUserData": extra,
		"kubelet":       object{"maxPods": 110, "serializeImagePulls": false},
	}, nil
}
