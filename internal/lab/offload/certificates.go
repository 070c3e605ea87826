// SPDX-License-Identifier: Apache-2.0

package offload

import (
	"context"
	"fmt"
	"os"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/kube"
)

// writeCertificates makes a certificate authority for the path's own connection,
// virtual kubelet to API with client certificates, and the virtual node's
// serving certificate, which the origin's API server checks. Those that are
// there are kept: processes of the path may be using them.
func (p *Path) writeCertificates(context.Context) error {
	if _, err := os.Stat(p.file(lastCertificate)); err == nil {
		return nil
	}
	ca, _, err := kube.NewCA("interlink-" + p.Node)
	if err != nil {
		return err
	}
	server, err := ca.Serving("interlink-api", address)
	if err != nil {
		return err
	}
	client, err := ca.Client("virtual-kubelet-" + p.Node)
	if err != nil {
		return err
	}
	origin, err := p.Lab.Cluster(lab.AF)
	if err != nil {
		return err
	}
	plane, err := origin.ControlPlane()
	if err != nil {
		return err
	}
	originCA, err := plane.CA()
	if err != nil {
		return err
	}
	kubelet, err := originCA.Issue(servingOfNode(p.Node))
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"interlink-ca.crt": ca.PEM,
		"api.crt":          server.Cert, "api.key": server.Key,
		"client.crt": client.Cert, "client.key": client.Key,
		"kubelet.crt": kubelet.Cert, "kubelet.key": kubelet.Key,
	}
	for name, content := range files {
		if err := os.WriteFile(p.file(name), content, 0o600); err != nil {
			return fmt.Errorf("write certificate: %w", err)
		}
	}
	if err := os.WriteFile(p.file(lastCertificate), originCA.PEM, 0o600); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	return nil
}

// lastCertificate is written last: when it is there, all are.
const lastCertificate = "origin-ca.crt"
