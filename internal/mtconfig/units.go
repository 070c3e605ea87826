// SPDX-License-Identifier: Apache-2.0

package mtconfig

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

const loopback = "127.0.0.1"

// Program is one of the webhooks, or the proxy.
type Program struct {
	// Name is the program's.
	Name string
	// Config is its file, and Kubeconfig, if it needs one by a flag, the other.
	Config, Kubeconfig string
	// opsPort is where the first replica has its health and metrics.
	opsPort int
}

// Programs are the three webhooks and, if the site has one, the proxy.
func (s Site) Programs() []Program {
	all := []Program{
		{Name: authnWebhook, Config: s.path("authn.yaml"), opsPort: 9642},
		{Name: authzWebhook, Config: s.path("authz.yaml"), opsPort: 9644},
		{Name: admissionHook, Config: s.path("admission.yaml"), Kubeconfig: s.path("admission.kubeconfig"), opsPort: 9446},
	}
	if s.Proxy != nil {
		all = append(all, Program{Name: proxyProgram, Config: s.path("proxy.yaml"), opsPort: 9648})
	}
	return all
}

// Args are the arguments of a replica; the first is 1.
func (p Program) Args(replica int) []string {
	args := []string{"--config=" + p.Config}
	if p.Kubeconfig != "" {
		args = append(args, "--kubeconfig="+p.Kubeconfig)
	}
	return append(args, "--ops-listen="+p.OpsAddress(replica))
}

// OpsAddress is where a replica has its health and metrics.
func (p Program) OpsAddress(replica int) string {
	return net.JoinHostPort(loopback, strconv.Itoa(p.opsPort+10*(replica-1)))
}

// units are what runs the programs: a unit, or a static pod, for each replica.
func (w *writer) units() {
	for _, program := range w.site.Programs() {
		for replica := 1; replica <= w.site.Replicas; replica++ {
			name := program.Name
			if w.site.Replicas > 1 {
				name = fmt.Sprintf("%s-%d", name, replica)
			}
			if w.site.Runs == Systemd {
				w.put("systemd/"+name+".service", w.unit(program, replica))
			} else {
				w.put("static-pods/"+name+".yaml", w.pod(program, name, replica))
			}
		}
	}
}

func (w *writer) unit(program Program, replica int) string {
	path := w.site.ProgramDir + "/" + program.Name
	var lines []string
	for line := range strings.Lines(w.text(program.Name + "/" + program.Name + ".service")) {
		key, _, _ := strings.Cut(line, "=")
		switch {
		case key == "ExecStart":
			line = "ExecStart=" + path + " " + strings.Join(program.Args(replica), " ") + "\n"
		case key == "ExecStartPre":
			line = "ExecStartPre=" + path + " --config=" + program.Config + " --check\n"
		case (key == "User" || key == "Group") && w.site.Owner != "":
			line = key + "=" + w.site.Owner + "\n"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

func (w *writer) pod(program Program, name string, replica int) string {
	pod := w.document(program.Name + "/static-pod.yaml")
	metadata, _ := pod["metadata"].(object)
	spec, _ := pod["spec"].(object)
	containers, _ := spec["containers"].([]any)
	if metadata == nil || len(containers) != 1 {
		w.fail(fmt.Errorf("static pod of %s is not as expected", program.Name))
		return ""
	}
	metadata["name"] = name
	container, _ := containers[0].(object)
	container["image"] = w.site.Image + program.Name + ":" + w.site.Tag
	container["args"] = program.Args(replica)
	for _, probe := range []string{"livenessProbe", "readinessProbe"} {
		check, _ := container[probe].(object)
		get, _ := check["httpGet"].(object)
		if get == nil {
			w.fail(fmt.Errorf("static pod of %s has no %s", program.Name, probe))
			return ""
		}
		get["port"] = program.opsPort + 10*(replica-1)
	}
	if program.Name == proxyProgram { // it sees single files only, none of the webhooks' keys
		mounts, _ := container["volumeMounts"].([]any)
		container["volumeMounts"] = append(mounts, object{"name": "policy", "mountPath": w.site.path(policyFile), "readOnly": true})
		volumes, _ := spec["volumes"].([]any)
		spec["volumes"] = append(volumes, object{"name": "policy", "hostPath": object{"path": w.site.path(policyFile), "type": "File"}})
	}
	content, err := yaml.Marshal(pod)
	if err != nil {
		w.fail(err)
	}
	return writtenByHeader + string(content)
}
