// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

const (
	nodeUserPrefix = "system:node:"
	// approveResync retries what could not be approved, for instance because the node was not known yet.
	approveResync = 5 * time.Second
)

// Approver approves the certificates that kubelets of known nodes ask for. Kubernetes does not approve serving
// certificates, because it cannot know which addresses a node has; without them logs, exec and port-forward fail with a
// TLS error. It would approve whichever client certificate somebody with a bootstrap token asks for, if kubeadm's rule for
// that were there: it is not, since those who run a node of their own must not get another's.
type Approver struct {
	Client kubernetes.Interface
	// Addresses returns the addresses of a node, none for a node that is not known. It may be called at any time.
	Addresses func(node string) []string
	// Bootstrapper is the user whose bootstrap token the known nodes join with; see BootstrapUser.
	Bootstrapper string
	Logger       *slog.Logger
}

// Run approves until ctx is done.
func (a *Approver) Run(ctx context.Context) error {
	factory := informers.NewSharedInformerFactory(a.Client, approveResync)
	informer := factory.Certificates().V1().CertificateSigningRequests().Informer()
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
	enqueue := func(obj any) {
		if request, isRequest := obj.(*certificatesv1.CertificateSigningRequest); isRequest {
			queue.Add(request.Name)
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: enqueue, UpdateFunc: func(_, obj any) { enqueue(obj) },
	})
	if err != nil {
		return fmt.Errorf("watch certificate signing requests: %w", err)
	}
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	stop := context.AfterFunc(ctx, queue.ShutDown)
	defer stop()
	for {
		name, shutdown := queue.Get()
		if shutdown {
			return nil
		}
		a.handle(ctx, informer.GetStore(), name)
		queue.Done(name)
	}
}

func (a *Approver) handle(ctx context.Context, store cache.Store, name string) {
	obj, exists, err := store.GetByKey(name)
	if err != nil || !exists {
		return
	}
	request, isRequest := obj.(*certificatesv1.CertificateSigningRequest)
	if !isRequest || len(request.Status.Conditions) > 0 {
		return // decided already
	}
	logger := a.Logger.With("request", name, "signer", request.Spec.SignerName, "requestor", request.Spec.Username)
	if err := a.check(request); err != nil {
		logger.DebugContext(ctx, "left certificate undecided", "reason", err)
		return
	}
	request = request.DeepCopy()
	request.Status.Conditions = append(request.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "LabNode",
		Message: "asked for by a node of the lab for itself",
	})
	_, err = a.Client.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, name, request, metav1.UpdateOptions{})
	if err != nil {
		logger.ErrorContext(ctx, "approve certificate", "error", err) // tried again at the next resync
		return
	}
	logger.InfoContext(ctx, "approved certificate")
}

func (a *Approver) check(request *certificatesv1.CertificateSigningRequest) error {
	if request.Spec.SignerName == certificatesv1.KubeAPIServerClientKubeletSignerName {
		return CheckClient(request, a.Bootstrapper, func(node string) bool { return len(a.Addresses(node)) > 0 })
	}
	return CheckServing(request, a.Addresses(strings.TrimPrefix(request.Spec.Username, nodeUserPrefix)))
}

// CheckClient tells why a request is not one of the bootstrapper for the client certificate of a known node.
func CheckClient(request *certificatesv1.CertificateSigningRequest, bootstrapper string, known func(node string) bool) error {
	spec := request.Spec
	if spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName {
		return fmt.Errorf("signer is %s", spec.SignerName)
	}
	if bootstrapper == "" || spec.Username != bootstrapper {
		return fmt.Errorf("requestor %s does not bootstrap nodes of the lab", spec.Username)
	}
	if err := checkUsages(spec.Usages, certificatesv1.UsageClientAuth); err != nil {
		return err
	}
	parsed, err := parse(spec.Request)
	if err != nil {
		return err
	}
	node, isNode := strings.CutPrefix(parsed.Subject.CommonName, nodeUserPrefix)
	switch {
	case !isNode || !known(node):
		return fmt.Errorf("common name %q is not that of a node of the lab", parsed.Subject.CommonName)
	case !slices.Equal(parsed.Subject.Organization, []string{nodesGroup}):
		return fmt.Errorf("organization is %q", parsed.Subject.Organization)
	case len(parsed.DNSNames)+len(parsed.IPAddresses)+len(parsed.EmailAddresses)+len(parsed.URIs) > 0:
		return errors.New("request names addresses")
	}
	return nil
}

// CheckServing tells why a request is not one of a node, whose addresses are given, for its own serving certificate.
func CheckServing(request *certificatesv1.CertificateSigningRequest, addresses []string) error {
	spec := request.Spec
	node, isNode := strings.CutPrefix(spec.Username, nodeUserPrefix)
	switch {
	case spec.SignerName != certificatesv1.KubeletServingSignerName:
		return fmt.Errorf("signer is %s", spec.SignerName)
	case !isNode || !slices.Contains(spec.Groups, nodesGroup):
		return fmt.Errorf("requestor %s is not a node", spec.Username)
	case len(addresses) == 0:
		return fmt.Errorf("node %s is not known", node)
	}
	if err := checkUsages(spec.Usages, certificatesv1.UsageServerAuth); err != nil {
		return err
	}
	parsed, err := parse(spec.Request)
	if err != nil {
		return err
	}
	return checkSubject(parsed, spec.Username, append([]string{node}, addresses...))
}

// parse reads a PEM request and checks that it is signed with its own key.
func parse(request []byte) (*x509.CertificateRequest, error) {
	block, _ := pem.Decode(request)
	if block == nil {
		return nil, errors.New("request is not PEM")
	}
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parse request: %w", err)
	}
	if err := parsed.CheckSignature(); err != nil {
		return nil, fmt.Errorf("check signature of request: %w", err)
	}
	return parsed, nil
}

// checkUsages wants one usage, and allows what every certificate is for besides.
func checkUsages(usages []certificatesv1.KeyUsage, wanted certificatesv1.KeyUsage) error {
	allowed := []certificatesv1.KeyUsage{wanted, certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment}
	for _, usage := range usages {
		if !slices.Contains(allowed, usage) {
			return fmt.Errorf("usage %q is not for %s", usage, wanted)
		}
	}
	if !slices.Contains(usages, wanted) {
		return fmt.Errorf("usage is not for %s", wanted)
	}
	return nil
}

func checkSubject(parsed *x509.CertificateRequest, user string, known []string) error {
	switch {
	case parsed.Subject.CommonName != user:
		return fmt.Errorf("common name %q is not the requestor's", parsed.Subject.CommonName)
	case !slices.Equal(parsed.Subject.Organization, []string{nodesGroup}):
		return fmt.Errorf("organization is %q", parsed.Subject.Organization)
	case len(parsed.EmailAddresses) > 0 || len(parsed.URIs) > 0:
		return errors.New("request names e-mail addresses or URIs")
	case len(parsed.DNSNames)+len(parsed.IPAddresses) == 0:
		return errors.New("request names no address")
	}
	for _, name := range parsed.DNSNames {
		if !slices.Contains(known, name) {
			return fmt.Errorf("%s is not a name of the node", name)
		}
	}
	for _, ip := range parsed.IPAddresses {
		if !slices.Contains(known, ip.String()) {
			return fmt.Errorf("%s is not an address of the node", ip)
		}
	}
	return nil
}
