// SPDX-License-Identifier: Apache-2.0

package admission

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// baselineCapabilities may be added to a container's by the baseline of the Pod Security
// Standards.
func baselineCapability(name corev1.Capability) bool {
	return slices.Contains([]corev1.Capability{
		"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
		"NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
	}, name)
}

func baselineSysctl(name string) bool {
	return slices.Contains([]string{
		"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports",
		"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout",
		"net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time",
		"net.ipv4.tcp_rmem", "net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem",
	}, name)
}

// beyondBaseline says what in the pod exceeds the baseline of the Pod Security Standards,
// which is what shared nodes take in any case.
func beyondBaseline(spec *corev1.PodSpec, path string) []string {
	var problems []string
	for field, used := range map[string]bool{"hostNetwork": spec.HostNetwork, "hostPID": spec.HostPID, "hostIPC": spec.HostIPC} {
		if used {
			problems = append(problems, fmt.Sprintf("%s.%s is not allowed", path, field))
		}
	}
	slices.Sort(problems)
	for i := range spec.Volumes {
		if spec.Volumes[i].HostPath != nil {
			problems = append(problems, fmt.Sprintf("%s.volumes[%d].hostPath is not allowed", path, i))
		}
	}
	problems = append(problems, podContext(spec.SecurityContext, path+".securityContext")...)
	eachContainer(spec, path, func(container *corev1.Container, at string) {
		problems = append(problems, containerContext(container.SecurityContext, at+".securityContext")...)
		for i, port := range container.Ports {
			if port.HostPort != 0 {
				problems = append(problems, fmt.Sprintf("%s.ports[%d].hostPort is not allowed", at, i))
			}
		}
		problems = append(problems, probeHosts(container, at)...)
	})
	return problems
}

// eachContainer calls visit with the containers of all kinds.
func eachContainer(spec *corev1.PodSpec, path string, visit func(container *corev1.Container, at string)) {
	for i := range spec.InitContainers {
		visit(&spec.InitContainers[i], fmt.Sprintf("%s.initContainers[%d]", path, i))
	}
	for i := range spec.Containers {
		visit(&spec.Containers[i], fmt.Sprintf("%s.containers[%d]", path, i))
	}
	for i := range spec.EphemeralContainers {
		common := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
		visit(&common, fmt.Sprintf("%s.ephemeralContainers[%d]", path, i))
	}
}

func podContext(context *corev1.PodSecurityContext, path string) []string {
	if context == nil {
		return nil
	}
	problems := profiles(context.SeccompProfile, context.AppArmorProfile, context.SELinuxOptions, context.WindowsOptions, path)
	for i, sysctl := range context.Sysctls {
		if !baselineSysctl(sysctl.Name) {
			problems = append(problems, fmt.Sprintf("%s.sysctls[%d]: %s is not allowed", path, i, sysctl.Name))
		}
	}
	return problems
}

func containerContext(context *corev1.SecurityContext, path string) []string {
	if context == nil {
		return nil
	}
	problems := profiles(context.SeccompProfile, context.AppArmorProfile, context.SELinuxOptions, context.WindowsOptions, path)
	if context.Privileged != nil && *context.Privileged {
		problems = append(problems, path+".privileged is not allowed")
	}
	if context.ProcMount != nil && *context.ProcMount != corev1.DefaultProcMount {
		problems = append(problems, path+".procMount is not allowed")
	}
	if context.Capabilities == nil {
		return problems
	}
	for _, name := range context.Capabilities.Add {
		if !baselineCapability(corev1.Capability(strings.TrimPrefix(string(name), "CAP_"))) {
			problems = append(problems, fmt.Sprintf("%s.capabilities.add: %s is not allowed", path, name))
		}
	}
	return problems
}

func profiles(
	seccomp *corev1.SeccompProfile, armor *corev1.AppArmorProfile, selinux *corev1.SELinuxOptions,
	windows *corev1.WindowsSecurityContextOptions, path string,
) []string {
	var problems []string
	if seccomp != nil && seccomp.Type == corev1.SeccompProfileTypeUnconfined {
		problems = append(problems, path+".seccompProfile: Unconfined is not allowed")
	}
	if armor != nil && armor.Type == corev1.AppArmorProfileTypeUnconfined {
		problems = append(problems, path+".appArmorProfile: Unconfined is not allowed")
	}
	if selinux != nil {
		types := []string{"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
		if !slices.Contains(types, selinux.Type) || selinux.User != "" || selinux.Role != "" {
			problems = append(problems, path+".seLinuxOptions is not allowed")
		}
	}
	if windows != nil && windows.HostProcess != nil && *windows.HostProcess {
		problems = append(problems, path+".windowsOptions.hostProcess is not allowed")
	}
	return problems
}

// probeHosts finds probes and hooks that the node would send elsewhere than to the pod.
func probeHosts(container *corev1.Container, path string) []string {
	var problems []string
	hosted := func(field string, get *corev1.HTTPGetAction, tcp *corev1.TCPSocketAction) {
		if (get != nil && get.Host != "") || (tcp != nil && tcp.Host != "") {
			problems = append(problems, path+"."+field+": a host is not allowed")
		}
	}
	for field, probe := range map[string]*corev1.Probe{
		"livenessProbe": container.LivenessProbe, "readinessProbe": container.ReadinessProbe, "startupProbe": container.StartupProbe,
	} {
		if probe != nil {
			hosted(field, probe.HTTPGet, probe.TCPSocket)
		}
	}
	if container.Lifecycle != nil {
		for field, hook := range map[string]*corev1.LifecycleHandler{
			"lifecycle.postStart": container.Lifecycle.PostStart, "lifecycle.preStop": container.Lifecycle.PreStop,
		} {
			if hook != nil {
				hosted(field, hook.HTTPGet, hook.TCPSocket)
			}
		}
	}
	slices.Sort(problems)
	return problems
}
