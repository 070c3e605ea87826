// SPDX-License-Identifier: Apache-2.0

package joiner

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/lab/hypervisor/userdata"
)

// Where user data puts what a kubelet needs.
const (
	bootstrapFile   = "/etc/kubernetes/bootstrap-kubelet.conf"
	environmentFile = "/etc/kubernetes/kubelet.env"
	hostnameFlag    = "--hostname-override="
)

// seed is what a server's user data says of the cluster.
type seed struct {
	nodeID string
	// bootstrap has the token; anonymous is without.
	bootstrap, anonymous *rest.Config
}

// readSeed finds the node's name and the bootstrap kubeconfig.
func readSeed(data []byte) (*seed, error) {
	files, err := userdata.Files(data)
	if err != nil {
		return nil, err
	}
	environment, ok := userdata.Find(files, environmentFile)
	if !ok {
		return nil, fmt.Errorf("user data does not write %s", environmentFile)
	}
	nodeID := hostnameOverride(string(environment))
	if nodeID == "" {
		return nil, fmt.Errorf("%s has no %s", environmentFile, hostnameFlag)
	}
	kubeconfig, ok := userdata.Find(files, bootstrapFile)
	if !ok {
		return nil, fmt.Errorf("user data does not write %s", bootstrapFile)
	}
	config, err := clientConfig(kubeconfig, files)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", bootstrapFile, err)
	}
	return &seed{nodeID: nodeID, bootstrap: config, anonymous: rest.AnonymousClientConfig(config)}, nil
}

// hostnameOverride finds the flag in a shell's assignment of arguments.
func hostnameOverride(environment string) string {
	for line := range strings.Lines(environment) {
		_, arguments, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		for argument := range strings.FieldsSeq(strings.Trim(arguments, `"'`)) {
			if name, ok := strings.CutPrefix(argument, hostnameFlag); ok {
				return strings.Trim(name, `"'`)
			}
		}
	}
	return ""
}

// clientConfig reads a kubeconfig whose files are those of the user data.
func clientConfig(kubeconfig []byte, files []userdata.File) (*rest.Config, error) {
	loaded, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, err
	}
	for _, cluster := range loaded.Clusters {
		if cluster.CertificateAuthority == "" {
			continue
		}
		ca, ok := userdata.Find(files, cluster.CertificateAuthority)
		if !ok {
			return nil, fmt.Errorf("user data does not write %s", cluster.CertificateAuthority)
		}
		cluster.CertificateAuthority, cluster.CertificateAuthorityData = "", ca
	}
	for name, user := range loaded.AuthInfos {
		if user.Exec != nil || user.AuthProvider != nil || user.TokenFile != "" || user.ClientCertificate != "" || user.ClientKey != "" {
			return nil, fmt.Errorf("user %s does not log in by a token", name)
		}
	}
	config, err := clientcmd.NewDefaultClientConfig(*loaded, nil).ClientConfig()
	if err != nil {
		return nil, err
	}
	if config.BearerToken == "" {
		return nil, errors.New("it has no token")
	}
	config.QPS = -1
	return config, nil
}
