// SPDX-License-Identifier: Apache-2.0

package site

import (
	"fmt"
	"os"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/lab"
)

const (
	// loginProgram gets tokens for users.
	loginProgram = "kubectl-openstack"
	cloudName    = "caas"
)

// loginKubeconfig writes a kubeconfig file with which kubectl logs in to Keystone, whenever it needs a token. The
// password is in a clouds.yaml beside it.
func (s *Site) loginKubeconfig(user, project string) (string, error) {
	dir := s.file("users", fileName(user+"-"+project))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make directory of user: %w", err)
	}
	clouds := filepath.Join(dir, "clouds.yaml")
	if err := s.writeClouds(clouds, user, project); err != nil {
		return "", err
	}
	cluster, err := s.cluster()
	if err != nil {
		return "", err
	}
	plane, err := cluster.ControlPlane()
	if err != nil {
		return "", err
	}
	program, err := filepath.Abs(filepath.Join(s.BinDir, loginProgram))
	if err != nil {
		return "", fmt.Errorf("find %s: %w", loginProgram, err)
	}
	config := clientcmdapi.NewConfig()
	config.Clusters[lab.CaaS] = &clientcmdapi.Cluster{Server: s.Lab.Proxy(), CertificateAuthority: plane.CAFile()}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
		APIVersion: "client.authentication.k8s.io/v1", Command: program, Args: []string{"get-token"},
		Env: []clientcmdapi.ExecEnvVar{
			{Name: "OS_CLOUD", Value: cloudName}, {Name: "OS_CLIENT_CONFIG_FILE", Value: clouds}, {Name: "HOME", Value: dir},
		},
		InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
	}}
	config.Contexts[lab.CaaS] = &clientcmdapi.Context{Cluster: lab.CaaS, AuthInfo: user, Namespace: NamespaceOf(project)}
	config.CurrentContext = lab.CaaS
	path := filepath.Join(dir, "kubeconfig")
	return path, wrap(clientcmd.WriteToFile(*config, path), "write kubeconfig")
}

func (s *Site) writeClouds(path, user, project string) error {
	password, err := s.Cloud.Password(user)
	if err != nil {
		return err
	}
	encoded, err := yaml.Marshal(object{"clouds": object{cloudName: object{
		"cacert": s.Lab.KeystoneCA(), "region_name": s.Cloud.Region(),
		"auth": object{
			"auth_url": s.Lab.KeystoneURL(), "username": user, "password": password, "user_domain_name": "Default",
			"project_name": project, "project_domain_name": "Default",
		},
	}}})
	if err != nil {
		return fmt.Errorf("encode clouds.yaml: %w", err)
	}
	return wrap(os.WriteFile(path, encoded, 0o600), "write clouds.yaml")
}
