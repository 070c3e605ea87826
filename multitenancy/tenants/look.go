// SPDX-License-Identifier: Apache-2.0

package tenants

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/internal/logging"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// resync looks at all namespaces of projects from time to time, until ctx is done.
func (c *Controller) resync(ctx context.Context) {
	timer := time.NewTicker(c.cfg.Resync)
	defer timer.Stop()
	for {
		if err := c.look(ctx); err != nil && ctx.Err() == nil {
			logging.From(ctx).ErrorContext(ctx, "namespaces of projects cannot be looked at", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
	}
}

// look has all namespaces checked, and those of the file's projects made.
func (c *Controller) look(ctx context.Context) error {
	c.forget()
	for _, project := range c.cfg.Projects {
		c.Seen(project)
	}
	list, err := c.cfg.Client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: tenant.LabelProjectID})
	if err != nil {
		return fmt.Errorf("list namespaces: %w", err)
	}
	var namespaces []corev1.Namespace
	for _, namespace := range list.Items {
		if mine := tenant.NamespaceOf(namespace.Name, namespace.Labels); mine.Tenant {
			namespaces = append(namespaces, namespace)
			c.queue.Add(mine.ProjectID)
		}
	}
	c.metrics.namespaces.Set(float64(len(namespaces)))
	return c.askForGone(ctx, namespaces)
}

// forget is what makes a look be one: nothing is known to be done any more.
func (c *Controller) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.done)
}

// askForGone marks the namespaces whose projects are gone. The first that it cannot tell of ends it until the next look:
// it will not be the last.
func (c *Controller) askForGone(ctx context.Context, namespaces []corev1.Namespace) error {
	if c.cfg.Directory == nil {
		return nil
	}
	for _, namespace := range namespaces {
		id := namespace.Labels[tenant.LabelProjectID]
		// What stands for an id that no label can hold, nobody can look up.
		if unmanaged(&namespace) || namespace.DeletionTimestamp != nil || strings.HasPrefix(id, "h-") {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, workTimeout)
		exists, err := c.cfg.Directory.Exists(limited, id)
		if err == nil {
			err = c.mark(limited, &namespace, exists)
		}
		cancel()
		if err != nil {
			return fmt.Errorf("project %s of namespace %s: %w", id, namespace.Name, err)
		}
	}
	return nil
}

// mark tells the administrator that a namespace's project is gone, or that it is back.
func (c *Controller) mark(ctx context.Context, namespace *corev1.Namespace, exists bool) error {
	if _, marked := namespace.Annotations[AnnotationGone]; exists != marked {
		return nil
	}
	var value any // null takes the annotation away
	kind, reason, message := corev1.EventTypeNormal, reasonBack, "the project is there again"
	if !exists {
		value = time.Now().UTC().Format(time.RFC3339)
		kind, reason, message = corev1.EventTypeWarning, reasonGone, "the project is gone: nobody can log in to it, and its namespace is not deleted by itself"
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{AnnotationGone: value}}})
	if err != nil {
		return err
	}
	_, err = c.cfg.Client.CoreV1().Namespaces().Patch(ctx, namespace.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: component})
	if err != nil {
		return fmt.Errorf("mark: %w", err)
	}
	logging.From(ctx).InfoContext(ctx, "namespace marked", "namespace", namespace.Name, "reason", reason)
	c.events.Event(namespace, kind, reason, message)
	return nil
}

func unmanaged(namespace *corev1.Namespace) bool {
	return namespace.Annotations[AnnotationManaged] == "false"
}
