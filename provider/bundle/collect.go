// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"

	"github.com/cloudveneto/caas/internal/interlink"
)

// Config is what a Collector needs.
type Config struct {
	Client kubernetes.Interface
	// Recorder gets an event for environment variables that are skipped; may be nil.
	Recorder record.EventRecorder
	// APIServer is how remote pods reach the origin's API server, if they can.
	APIServer APIServer
	// NoProjected leaves out projected and downwardAPI volumes.
	NoProjected bool
	// JobScriptURL is sent with every request; Kubernetes plugins ignore it.
	JobScriptURL string
	// Allocatable is what the virtual node has: the limit of containers without one.
	Allocatable func() corev1.ResourceList
}

// APIServer is an address of the origin's API server that remote pods can reach.
type APIServer struct {
	Address string
	Port    string
	// CA, if set, replaces the content of kube-root-ca.crt.
	CA string
}

// Options depend on the far end and on what the request is for.
type Options struct {
	// References: the far end resolves environment references itself, and takes
	// referenced objects beside the mounted ones.
	References bool
	// Claims says what is told of the pod's claims.
	Claims Claims
	// Marks has Marks put on the request's pod, for far ends that keep them.
	Marks bool
	// Update makes a request that updates a pod; nil one that creates it.
	Update *Update
	// Newest is the version of an object as far as anyone knows, or "". What was read
	// before is good enough for as long as it has that version, and no longer. Default: unknown.
	Newest func(Reference) string
}

// Update says what an update has to bring. What is missing at the origin is left out
// of it, and stays as it is at the far end.
type Update struct {
	// Held is what the far end holds.
	Held Marks
	// Tokens: volumes with tokens belong to the update, with new tokens.
	Tokens bool
}

// Collector collects what pods reference. It may be used by many goroutines.
type Collector struct {
	cfg        Config
	configMaps *cache[corev1.ConfigMap]
	secrets    *cache[corev1.Secret]
	claims     *cache[corev1.PersistentVolumeClaim]
}

// New returns a collector.
func New(cfg Config) (*Collector, error) {
	if cfg.Client == nil {
		return nil, errors.New("bundle: Client is missing")
	}
	if cfg.Allocatable == nil {
		cfg.Allocatable = func() corev1.ResourceList { return nil }
	}
	return &Collector{cfg: cfg, configMaps: newConfigMaps(cfg.Client), secrets: newSecrets(cfg.Client), claims: newClaims(cfg.Client)}, nil
}

// Collect returns the request that creates or updates pod, which is not changed.
func (c *Collector) Collect(ctx context.Context, pod *corev1.Pod, options Options) (*interlink.CreateRequest, error) {
	b := &build{collector: c, origin: pod, options: options, seen: map[string]bool{}, versions: map[Reference]string{}}
	b.request.JobScriptURL = c.cfg.JobScriptURL
	b.request.Pod = *pod.DeepCopy()
	b.request.Pod.ManagedFields = nil
	dropLocal(&b.request.Pod)
	if err := b.volumes(ctx); err != nil {
		return nil, err
	}
	if err := b.claims(ctx); err != nil {
		return nil, err
	}
	for _, list := range [][]corev1.Container{b.request.Pod.Spec.InitContainers, b.request.Pod.Spec.Containers} {
		for i := range list {
			if err := b.environment(ctx, &list[i], options); err != nil {
				return nil, err
			}
			c.addAPIServer(&list[i])
		}
	}
	if options.References {
		if err := b.pullSecrets(ctx); err != nil {
			return nil, err
		}
	}
	if options.Marks {
		b.marks().put(&b.request.Pod)
	}
	return &b.request, nil
}

// tolerated drops the error that an update does without something.
func (b *build) tolerated(err error) error {
	var missing *MissingError
	if b.options.Update != nil && errors.As(err, &missing) && missing.Kind != kindServiceAccount {
		return nil
	}
	return err
}

// marks say what the request was made of. Versions of objects that were not read are
// the newest ones known, so that the same state has the same revision.
func (b *build) marks() Marks {
	marks := Marks{RefreshAt: b.refreshAt}
	marks.Revision = RevisionOf(b.origin, func(reference Reference) string {
		if version, read := b.versions[reference]; read {
			return version
		}
		return b.newest(reference)
	})
	if update := b.options.Update; update != nil && !update.Tokens {
		marks.Revision.Tokens, marks.RefreshAt = update.Held.Revision.Tokens, update.Held.RefreshAt
	}
	return marks
}

func (b *build) newest(reference Reference) string {
	if b.options.Newest == nil {
		return ""
	}
	return b.options.Newest(reference)
}

// build is one request in the making.
type build struct {
	collector *Collector
	origin    *corev1.Pod
	options   Options
	request   interlink.CreateRequest
	// versions are those of the objects that were read.
	versions map[Reference]string
	// refreshAt is when the first token of the request has to be replaced.
	refreshAt time.Time
	// seen holds kind/name of the objects that are in the request.
	seen map[string]bool
}

// dropLocal removes the containers that annotations keep at the origin.
func dropLocal(pod *corev1.Pod) {
	drop := func(list []corev1.Container, annotation string) []corev1.Container {
		named := localNames(pod, annotation)
		return slices.DeleteFunc(list, func(c corev1.Container) bool { return slices.Contains(named, c.Name) })
	}
	pod.Spec.Containers = drop(pod.Spec.Containers, interlink.AnnotationLocalContainers)
	pod.Spec.InitContainers = drop(pod.Spec.InitContainers, interlink.AnnotationLocalInitContainers)
}

func localNames(pod *corev1.Pod, annotation string) []string {
	named := strings.Split(pod.Annotations[annotation], ",")
	for i := range named {
		named[i] = strings.TrimSpace(named[i])
	}
	return named
}

// configMap returns a ConfigMap of the pod's namespace and puts it into the
// request; nil if it is optional and missing.
func (b *build) configMap(ctx context.Context, name string, optional *bool) (*corev1.ConfigMap, error) {
	object, err := b.readConfigMap(ctx, name, optional)
	if err == nil && object != nil && !b.seen["ConfigMap/"+name] {
		b.seen["ConfigMap/"+name] = true
		b.request.ConfigMaps = append(b.request.ConfigMaps, *object)
	}
	return object, err
}

// secret is configMap for Secrets.
func (b *build) secret(ctx context.Context, name string, optional *bool) (*corev1.Secret, error) {
	object, err := b.readSecret(ctx, name, optional)
	if err == nil && object != nil && !b.seen["Secret/"+name] {
		b.seen["Secret/"+name] = true
		b.request.Secrets = append(b.request.Secrets, *object)
	}
	return object, err
}

// readConfigMap returns a ConfigMap of the pod's namespace; nil if it is optional and missing.
func (b *build) readConfigMap(ctx context.Context, name string, optional *bool) (*corev1.ConfigMap, error) {
	reference := Reference{Kind: KindConfigMap, Namespace: b.origin.Namespace, Name: name}
	object, err := b.collector.configMaps.get(ctx, b.origin.Namespace, name, b.newest(reference))
	return read(b, reference, object, isTrue(optional), err)
}

// readSecret is readConfigMap for Secrets.
func (b *build) readSecret(ctx context.Context, name string, optional *bool) (*corev1.Secret, error) {
	reference := Reference{Kind: KindSecret, Namespace: b.origin.Namespace, Name: name}
	object, err := b.collector.secrets.get(ctx, b.origin.Namespace, name, b.newest(reference))
	return read(b, reference, object, isTrue(optional), err)
}

// read notes the version of what was read.
func read[T any, O interface {
	*T
	metav1.Object
}](b *build, reference Reference, object O, optional bool, err error) (O, error) {
	var missing *MissingError
	switch {
	case err == nil:
		b.versions[reference] = object.GetResourceVersion()
		return object, nil
	case errors.As(err, &missing):
		b.versions[reference] = VersionAbsent
		if optional {
			return nil, nil
		}
	}
	return nil, err
}

func isTrue(b *bool) bool { return b != nil && *b }

// pullSecrets adds the registry credentials. A kubelet pulls without those that
// are missing, so they are never waited for.
func (b *build) pullSecrets(ctx context.Context) error {
	for _, reference := range b.request.Pod.Spec.ImagePullSecrets {
		if reference.Name == "" {
			continue
		}
		if _, err := b.secret(ctx, reference.Name, new(true)); err != nil {
			return err
		}
	}
	return nil
}

// addAPIServer adds the variables by which clients in the pod find the API
// server. These are the only service variables that a remote pod gets.
func (c *Collector) addAPIServer(container *corev1.Container) {
	address, port := c.cfg.APIServer.Address, c.cfg.APIServer.Port
	if address == "" || port == "" {
		return
	}
	where := "tcp://" + joinHostPort(address, port)
	for _, variable := range []corev1.EnvVar{
		{Name: "KUBERNETES_SERVICE_HOST", Value: address},
		{Name: "KUBERNETES_SERVICE_PORT", Value: port},
		{Name: "KUBERNETES_SERVICE_PORT_HTTPS", Value: port},
		{Name: "KUBERNETES_PORT", Value: where},
		{Name: "KUBERNETES_PORT_" + port + "_TCP", Value: where},
		{Name: "KUBERNETES_PORT_" + port + "_TCP_PROTO", Value: "tcp"},
		{Name: "KUBERNETES_PORT_" + port + "_TCP_ADDR", Value: address},
		{Name: "KUBERNETES_PORT_" + port + "_TCP_PORT", Value: port},
	} {
		set := slices.ContainsFunc(container.Env, func(e corev1.EnvVar) bool { return e.Name == variable.Name })
		if !set {
			container.Env = append(container.Env, variable)
		}
	}
}
