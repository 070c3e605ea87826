// SPDX-License-Identifier: Apache-2.0

package offload

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/openstack"
)

const (
	// loginProgram gets tokens for the sidecar.
	loginProgram = "kubectl-openstack"
	// cloudName is Keystone's name in clouds.yaml.
	cloudName = "caas"
)

// User and Project are whom a path's sidecar logs in as, and where its pods run.
const (
	User    = openstack.InterLink
	Project = openstack.CMS
)

// prepareTenant makes the namespace the project's and gives the sidecar an application
// credential of its own.
func (p *Path) prepareTenant(ctx context.Context) error {
	if err := p.Lab.AddTenantNamespace(ctx, Project, p.RemoteNamespace); err != nil {
		return err
	}
	if err := p.writeClouds(ctx); err != nil {
		return err
	}
	return p.writeTenantKubeconfig()
}

// CloudsFile is the file with the sidecar's application credential.
func (p *Path) CloudsFile() string { return p.file("clouds.yaml") }

// writeClouds makes an application credential unless its file is there. A secret cannot be read again, so one of a run
// that ended before it was written is of no use to anybody.
func (p *Path) writeClouds(ctx context.Context) error {
	if _, err := os.Stat(p.CloudsFile()); err == nil {
		return nil
	}
	keystone, err := p.Lab.Keystone()
	if err != nil {
		return err
	}
	credential, err := keystone.ReplaceApplicationCredential(ctx, User, Project, "sidecar-"+p.Node)
	if err != nil {
		return err
	}
	encoded, err := yaml.Marshal(object{"clouds": object{cloudName: object{
		"auth_type": "v3applicationcredential", "cacert": p.Lab.KeystoneCA(), "region_name": keystone.Region(),
		"auth": object{
			"auth_url": p.Lab.InsideKeystoneURL(), "application_credential_id": credential.ID,
			"application_credential_secret": credential.Secret,
		},
	}}})
	if err != nil {
		return fmt.Errorf("encode clouds.yaml: %w", err)
	}
	if err := os.WriteFile(p.CloudsFile(), encoded, 0o600); err != nil {
		return fmt.Errorf("write clouds.yaml: %w", err)
	}
	return nil
}

func (p *Path) writeTenantKubeconfig() error {
	caas, err := p.Lab.Cluster(lab.CaaS)
	if err != nil {
		return err
	}
	plane, err := caas.ControlPlane()
	if err != nil {
		return err
	}
	config := clientcmdapi.NewConfig()
	config.Clusters[lab.CaaS] = &clientcmdapi.Cluster{Server: "https://" + p.via(sidecarToCaaS), CertificateAuthority: plane.CAFile()}
	config.AuthInfos[User] = &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
		APIVersion: "client.authentication.k8s.io/v1", Command: filepath.Join(p.BinDir, loginProgram), Args: []string{"get-token"},
		Env:             []clientcmdapi.ExecEnvVar{{Name: "OS_CLOUD", Value: cloudName}, {Name: "OS_CLIENT_CONFIG_FILE", Value: p.CloudsFile()}},
		InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
	}}
	config.Contexts[lab.CaaS] = &clientcmdapi.Context{Cluster: lab.CaaS, AuthInfo: User, Namespace: p.RemoteNamespace}
	config.CurrentContext = lab.CaaS
	if err := clientcmd.WriteToFile(*config, p.file("caas.kubeconfig")); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}
