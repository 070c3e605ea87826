// SPDX-License-Identifier: Apache-2.0

package offload

import (
	"net"
	"strconv"
	"strings"

	"github.com/cloudveneto/caas/internal/lab"
)

// Names of the links of a path, each after who calls and who is called.
const (
	kubeletToOrigin = VirtualKubelet + " to origin"
	kubeletToAPI    = VirtualKubelet + " to " + API
	apiToSidecar    = API + " to " + Sidecar
	sidecarToCaaS   = Sidecar + " to CaaS"
)

// Link is one of the connections between the processes of a path, or from one of them to an API server.
type Link struct {
	Name string
	// Network is tcp or unix.
	Network string
	// Target is where the called one listens, Detour where callers of a path with a detour look for it. Both are inside
	// the lab's network, or paths.
	Target, Detour string
}

// Links are all links of the path. Nothing listens at their detours but what the path's owner puts there.
func (p *Path) Links() ([]Link, error) {
	origin, err := p.Lab.Cluster(lab.AF)
	if err != nil {
		return nil, err
	}
	caas, err := p.Lab.Cluster(lab.CaaS)
	if err != nil {
		return nil, err
	}
	inside := func(port int) string { return net.JoinHostPort(address, strconv.Itoa(port+p.Index)) }
	host := func(url string) string { return strings.TrimPrefix(url, "https://") }
	return []Link{
		{Name: kubeletToOrigin, Network: "tcp", Target: host(origin.InsideServer()), Detour: inside(3500)},
		{Name: kubeletToAPI, Network: "tcp", Target: host(p.APIURL()), Detour: inside(3600)},
		{Name: apiToSidecar, Network: "unix", Target: p.file("plugin.sock"), Detour: p.file("detour.sock")},
		{Name: sidecarToCaaS, Network: "tcp", Target: host(caas.InsideServer()), Detour: inside(3700)},
	}, nil
}

// via is the address at which the caller of a link finds who it calls; every path has all links.
func (p *Path) via(name string) string {
	links, _ := p.Links() // the lab has both clusters, as all have
	for _, link := range links {
		if link.Name == name && p.Detour {
			return link.Detour
		} else if link.Name == name {
			return link.Target
		}
	}
	return ""
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// Figures are the URLs, inside the lab's network, of what a process says of itself: its metrics and, on a path with
// profiles, where its profiles begin.
func (p *Path) Figures(component string) (metrics, profiles string) {
	ops := map[string]string{Sidecar: p.pluginOps(), API: p.apiOps(), VirtualKubelet: p.kubeletOps()}[component]
	debug := ops
	if component == API {
		debug = net.JoinHostPort("127.0.0.1", strconv.Itoa(p.apiPprof()))
	}
	return "http://" + ops + "/metrics", "http://" + debug + "/debug/pprof/"
}
