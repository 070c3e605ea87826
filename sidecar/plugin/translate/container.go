// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// containers copies containers, naming every field that travels.
func (t *translation) containers(path string, from []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for i := range from {
		at := fmt.Sprintf("%s[%s]", path, from[i].Name)
		out = append(out, t.container(at, &from[i]))
	}
	return out
}

func (t *translation) container(at string, from *corev1.Container) corev1.Container {
	return corev1.Container{
		Name:                     from.Name,
		Image:                    t.image(at+".image", from.Image),
		Command:                  from.Command,
		Args:                     from.Args,
		WorkingDir:               from.WorkingDir,
		Ports:                    t.ports(at, from.Ports),
		EnvFrom:                  t.envFrom(at, from.EnvFrom),
		Env:                      t.env(at, from.Env),
		Resources:                t.resources(at+".resources", from.Resources),
		ResizePolicy:             from.ResizePolicy,
		RestartPolicy:            from.RestartPolicy,
		RestartPolicyRules:       from.RestartPolicyRules,
		VolumeMounts:             t.mounts(at, from.VolumeMounts),
		VolumeDevices:            from.VolumeDevices,
		LivenessProbe:            from.LivenessProbe,
		ReadinessProbe:           from.ReadinessProbe,
		StartupProbe:             from.StartupProbe,
		Lifecycle:                from.Lifecycle,
		TerminationMessagePath:   from.TerminationMessagePath,
		TerminationMessagePolicy: from.TerminationMessagePolicy,
		ImagePullPolicy:          from.ImagePullPolicy,
		SecurityContext:          t.security(at, from.SecurityContext),
		Stdin:                    from.Stdin,
		StdinOnce:                from.StdinOnce,
		TTY:                      from.TTY,
	}
}

func (t *translation) ports(at string, from []corev1.ContainerPort) []corev1.ContainerPort {
	for i := range from {
		field := fmt.Sprintf("%s.ports[%d]", at, from[i].ContainerPort)
		if from[i].HostPort != 0 {
			t.refuse(Problem{
				Field: field + ".hostPort", Value: fmt.Sprint(from[i].HostPort),
				Rule:   "an offloaded pod cannot use the node's ports",
				Remedy: "remove hostPort; the pod is reached by its own address",
			})
		}
		if from[i].HostIP != "" {
			from[i].HostIP = ""
			t.dropped(field+".hostIP", "has no meaning without hostPort")
		}
	}
	return from
}

// resources renames resources by the policy's table.
func (t *translation) resources(at string, from corev1.ResourceRequirements) corev1.ResourceRequirements {
	if len(from.Claims) > 0 {
		t.refuse(Problem{
			Field: at + ".claims", Value: from.Claims[0].Name, Rule: "a resource claim is an object of the origin cluster",
			Remedy: "ask for the device by an extended resource in resources.limits",
		})
	}
	return corev1.ResourceRequirements{
		Limits:   t.renamed(at+".limits", from.Limits),
		Requests: t.renamed(at+".requests", from.Requests),
	}
}

func (t *translation) renamed(at string, from corev1.ResourceList) corev1.ResourceList {
	if len(from) == 0 || len(t.policy.Resources) == 0 {
		return from
	}
	out := corev1.ResourceList{}
	for _, name := range slices.Sorted(maps.Keys(from)) {
		quantity := from[name]
		target, found := t.policy.Resources[name]
		if !found {
			target = name
		} else if target != name {
			t.mapped(fmt.Sprintf("%s[%s]", at, name), string(target))
		}
		if sum, taken := out[target]; taken {
			sum.Add(quantity)
			quantity = sum
		}
		out[target] = quantity
	}
	return out
}
