// SPDX-License-Identifier: Apache-2.0

package mtconfig

import "strings"

// APIServerArgs are the further arguments of the kube-apiserver on the machine. It must have no --authorization-mode and no
// --anonymous-auth then. Watches end after five to ten minutes, so that those of users who have been removed do.
func (s Site) APIServerArgs() []string {
	return []string{
		"--authentication-config=" + s.path(AuthenticationFile),
		"--authentication-token-webhook-config-file=" + s.path(AuthnKubeconfig),
		"--authentication-token-webhook-version=v1",
		"--authentication-token-webhook-cache-ttl=30s",
		"--authorization-config=" + s.path(AuthorizationFile),
		"--admission-control-config-file=" + s.path(AdmissionFile),
		"--min-request-timeout=300",
	}
}

// apiServer writes the arguments, one per line, and the part of kubeadm's configuration that has them.
func (w *writer) apiServer() {
	arguments := w.site.APIServerArgs()
	w.put(argumentsFile, strings.Join(arguments, "\n")+"\n")
	extra := make([]object, len(arguments))
	for i, argument := range arguments {
		name, value, _ := strings.Cut(strings.TrimPrefix(argument, "--"), "=")
		extra[i] = object{"name": name, "value": value}
	}
	w.putYAML(kubeadmFile, object{
		"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration",
		"apiServer": object{
			"extraArgs": extra,
			"extraVolumes": []object{{
				"name": "kube-mt", "hostPath": w.site.Directory, "mountPath": w.site.Directory, "readOnly": true, "pathType": "Directory",
			}},
		},
	})
}
