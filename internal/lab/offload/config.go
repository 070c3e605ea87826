// SPDX-License-Identifier: Apache-2.0

package offload

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/lab"
)

// address is where the lab's own services listen inside its network.
const address = "10.88.0.1"

// originCluster is the id of the af cluster in everything that it offloads.
const originCluster = "af"

// Ports of path number Index; labs have no others in these ranges.
func (p *Path) apiPort() int       { return 3000 + p.Index }
func (p *Path) apiOps() string     { return "127.0.0.1:" + strconv.Itoa(3100+p.Index) }
func (p *Path) pluginOps() string  { return "127.0.0.1:" + strconv.Itoa(3200+p.Index) }
func (p *Path) kubeletOps() string { return "127.0.0.1:" + strconv.Itoa(3300+p.Index) }
func (p *Path) kubeletPort() int   { return 10260 + p.Index }
func (p *Path) apiPprof() int      { return 3400 + p.Index }

// APIURL is where the path's API listens, inside the lab's network.
func (p *Path) APIURL() string { return "https://" + address + ":" + strconv.Itoa(p.apiPort()) }

// ClientFiles are the certificate authority, certificate and key with which the
// virtual kubelet speaks to the API.
func (p *Path) ClientFiles() (ca, cert, key string) {
	return p.file("interlink-ca.crt"), p.file("client.crt"), p.file("client.key")
}

// OpsAddresses are the operations ports of the three processes by name, inside the lab's network.
func (p *Path) OpsAddresses() map[string]string {
	return map[string]string{Sidecar: p.pluginOps(), API: p.apiOps(), VirtualKubelet: p.kubeletOps()}
}

type object = map[string]any

func (p *Path) writeConfigs(context.Context) error {
	if issues := validation.IsDNS1123Label(p.Node); len(issues) > 0 {
		return fmt.Errorf("node name %q: %s", p.Node, issues[0])
	}
	origin, err := p.Lab.Cluster(lab.AF)
	if err != nil {
		return err
	}
	server, err := url.Parse(origin.InsideServer())
	if err != nil {
		return fmt.Errorf("address of the origin's API server: %w", err)
	}
	configs := map[string]object{
		"sidecar.yaml": {
			"listen": "unix://" + p.file("plugin.sock"), "opsListen": p.pluginOps(), "pprof": p.Pprof, "kubeconfig": p.file("caas.kubeconfig"),
			"namespace": object{"mode": "fixed", "fixed": p.RemoteNamespace},
			"policy": object{
				// The lab's nodes are the project's.
				"annotations":  object{"osn.infn.it/policy": "shared"},
				"nodeSelector": p.NodeSelector, "tolerations": p.Tolerations,
				"dns": object{originCluster: object{"nameservers": []string{origin.DNS()}, "domain": "cluster.local"}},
			},
		},
		"api.yaml": {
			"InterlinkAddress": "https://" + address, "InterlinkPort": strconv.Itoa(p.apiPort()),
			"SidecarURL": "unix://" + p.via(apiToSidecar), "OpsAddress": p.apiOps(),
			"Pprof": object{"Enabled": p.Pprof, "Address": "127.0.0.1", "Port": strconv.Itoa(p.apiPprof())},
			"TLS":   object{"Enabled": true, "CertFile": p.file("api.crt"), "KeyFile": p.file("api.key"), "CACertFile": p.file("interlink-ca.crt")},
		},
		"virtual-kubelet.yaml": {
			"InterlinkURL": "https://" + address, "InterlinkPort": portOf(p.via(kubeletToAPI)),
			"TLS":             object{"Enabled": true, "CertFile": p.file("client.crt"), "KeyFile": p.file("client.key"), "CACertFile": p.file("interlink-ca.crt")},
			"ClusterID":       originCluster,
			"KubeletCertFile": p.file("kubelet.crt"), "KubeletKeyFile": p.file("kubelet.key"), "KubeletClientCAFile": p.file("origin-ca.crt"),
			"KubernetesApiAddr": server.Hostname(), "KubernetesApiPort": server.Port(),
			"OpsAddress": p.kubeletOps(), "Pprof": object{"Enabled": p.Pprof},
		},
	}
	for name, content := range configs {
		encoded, err := yaml.Marshal(content)
		if err != nil {
			return fmt.Errorf("encode %s: %w", name, err)
		}
		if err := os.WriteFile(p.file(name), encoded, 0o600); err != nil {
			return fmt.Errorf("write configuration: %w", err)
		}
	}
	return nil
}
