// SPDX-License-Identifier: Apache-2.0

package site

import (
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"github.com/cloudveneto/caas/internal/lab"
)

const networkScript = "/usr/local/sbin/lab-network"

// userData is the part of every machine's user data that is this site's own. Real sites have a network plugin in the
// cluster; the lab has routes, which it makes by the same rule by which a machine finds its pods' network here.
func userData() (string, error) {
	document := map[string]any{
		"write_files": []map[string]any{{"path": networkScript, "permissions": "0755", "owner": "root:root", "content": script()}},
		"runcmd":      [][]string{{networkScript}},
	}
	encoded, err := yaml.Marshal(document)
	if err != nil {
		return "", fmt.Errorf("encode user data: %w", err)
	}
	return "#cloud-config\n" + string(encoded), nil
}

// script writes the configuration of the network plugin.
func script() string {
	var cases strings.Builder
	for _, network := range lab.ProjectNetworks() {
		first := network.First.As4()
		subnet, _ := lab.PodSubnet(network.First) // the plan's own first server has one
		offset := int(subnet.Addr().As4()[2]) - int(first[3])
		fmt.Fprintf(&cases, "%d.%d.%d) third=$(($4 + %d)) ;;\n", first[0], first[1], first[2], offset)
	}
	return `#!/bin/sh
# Gives the pods of this machine addresses that the lab routes to it.
set -eu
address=$(ip -4 -o address show scope global | sed -n '1s|.* inet \([0-9.]*\)/.*|\1|p')
IFS=.
# shellcheck disable=SC2086 # one word for each byte
set -- $address
unset IFS
case $1.$2.$3 in
` + cases.String() + `*) echo "lab-network: $address is in no project's network" >&2; exit 1 ;;
esac
mkdir -p /etc/cni/net.d
cat >/etc/cni/net.d/10-lab.conflist <<EOF
{"cniVersion": "0.4.0", "name": "lab", "plugins": [
  {"type": "ptp", "ipMasq": false, "ipam": {"type": "host-local", "dataDir": "/run/cni-ipam",
    "ranges": [[{"subnet": "10.201.$third.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
EOF
`
}
