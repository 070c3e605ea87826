// SPDX-License-Identifier: Apache-2.0

package site

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/lab/openstack"
)

const (
	admissionTimeout = time.Minute
	admissionProbe   = 200 * time.Millisecond
)

// awaitAdmission returns when members of projects can make OpenStackNodes. The policy that writes the owner's labels
// needs the new kind's schema, for which the API server looks every five seconds only; until then it refuses.
func (s *Site) awaitAdmission(ctx context.Context) error {
	where, err := s.Cloud.Project(s.Projects[0])
	if err != nil {
		return err
	}
	config, err := s.member(where)
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, admissionTimeout)
	defer cancel()
	ticker := time.NewTicker(admissionProbe)
	defer ticker.Stop()
	for {
		err := tryNode(ctx, client, NamespaceOf(where.Name))
		if err == nil || !apierrors.IsServiceUnavailable(err) && !apierrors.IsForbidden(err) {
			return wrap(err, "try to make an OpenStackNode")
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("members of project %s cannot make OpenStackNodes: %w", where.Name, errors.Join(err, ctx.Err()))
		}
	}
}

// member is somebody who may be in a project.
func (s *Site) member(project openstack.Project) (*rest.Config, error) {
	if s.Lab.Tenancy() {
		path, err := s.UserKubeconfig(openstack.Zangrand, project.Name)
		if err != nil {
			return nil, err
		}
		return clientcmd.BuildConfigFromFlags("", path)
	}
	cluster, err := s.cluster()
	if err != nil {
		return nil, err
	}
	config, err := cluster.RESTConfig()
	if err != nil {
		return nil, err
	}
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "lab:probe", Groups: []string{membersGroup + project.ID},
		Extra: map[string][]string{projectIDLabel: {project.ID}},
	}
	return config, nil
}

// tryNode asks whether an OpenStackNode could be made. None is.
func tryNode(ctx context.Context, client dynamic.Interface, namespace string) error {
	nodes := client.Resource(schema.GroupVersionResource{Group: "osnode.infn.it", Version: "v1", Resource: "openstacknodes"})
	_, err := nodes.Namespace(namespace).Create(ctx, &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "osnode.infn.it/v1", "kind": "OpenStackNode", "metadata": map[string]any{"generateName": "probe-"},
		"spec": map[string]any{"flavor": "any", "keyPair": "any", "policy": "private"},
	}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}
