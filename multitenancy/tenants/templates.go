// SPDX-License-Identifier: Apache-2.0

package tenants

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
)

// Templates are objects that each namespace gets if it has none of their names.
type Templates struct {
	Quotas   []corev1.ResourceQuota
	Limits   []corev1.LimitRange
	Policies []networkingv1.NetworkPolicy
}

// ParseTemplates reads ResourceQuotas, LimitRanges and NetworkPolicies in YAML. Fields that there are none of, other
// kinds and objects of certain namespaces are errors.
func ParseTemplates(data []byte) (Templates, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), networkingv1.AddToScheme(scheme)); err != nil {
		return Templates{}, err
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	var templates Templates
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(data)))
	for at := 1; ; at++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return templates, nil
		}
		if err == nil {
			err = templates.add(decoder, document)
		}
		if err != nil {
			return Templates{}, fmt.Errorf("document %d: %w", at, err)
		}
	}
}

func (t *Templates) add(decoder runtime.Decoder, document []byte) error {
	if text, err := yaml.ToJSON(document); err == nil && string(text) == "null" {
		return nil // comments only
	}
	object, _, err := decoder.Decode(document, nil, nil)
	if err != nil {
		return err
	}
	var meta *metav1.ObjectMeta
	switch made := object.(type) {
	case *corev1.ResourceQuota:
		t.Quotas, meta = append(t.Quotas, *made), &made.ObjectMeta
	case *corev1.LimitRange:
		t.Limits, meta = append(t.Limits, *made), &made.ObjectMeta
	case *networkingv1.NetworkPolicy:
		t.Policies, meta = append(t.Policies, *made), &made.ObjectMeta
	default:
		return fmt.Errorf("%s is none of ResourceQuota, LimitRange, NetworkPolicy", object.GetObjectKind().GroupVersionKind().Kind)
	}
	if meta.Name == "" || meta.Namespace != "" {
		return errors.New("metadata needs a name and no namespace")
	}
	return nil
}

// ensure makes what a namespace lacks. What it has under these names may have been changed for it.
func (t *Templates) ensure(ctx context.Context, client kubernetes.Interface, namespace string) error {
	var problems []error
	note := func(kind, name string, err error) {
		if err != nil && !apierrors.IsAlreadyExists(err) {
			problems = append(problems, fmt.Errorf("create %s %s: %w", kind, name, err))
		}
	}
	for _, object := range t.Quotas {
		_, err := client.CoreV1().ResourceQuotas(namespace).Create(ctx, object.DeepCopy(), metav1.CreateOptions{})
		note("ResourceQuota", object.Name, err)
	}
	for _, object := range t.Limits {
		_, err := client.CoreV1().LimitRanges(namespace).Create(ctx, object.DeepCopy(), metav1.CreateOptions{})
		note("LimitRange", object.Name, err)
	}
	for _, object := range t.Policies {
		_, err := client.NetworkingV1().NetworkPolicies(namespace).Create(ctx, object.DeepCopy(), metav1.CreateOptions{})
		note("NetworkPolicy", object.Name, err)
	}
	return errors.Join(problems...)
}
