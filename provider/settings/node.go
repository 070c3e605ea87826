// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// TaintKey is the taint that keeps pods off virtual nodes unless they tolerate it.
const TaintKey = "virtual-node.interlink/no-schedule"

// node makes the node's looks; upstream's labels and taint are kept, because
// pods in the field select and tolerate by them.
func node(f *file, environment Environment, wrong *problems) Node {
	n := Node{
		Name:    environment.NodeName,
		Address: environment.PodIP,
		Labels: map[string]string{
			"alpha.service-controller.kubernetes.io/exclude-balancer": "true",
			corev1.LabelHostname: environment.NodeName,
			// Not linux: DaemonSets that tolerate everything select by it.
			corev1.LabelOSStable:             "virtual-kubelet",
			"kubernetes.io/role":             "agent",
			corev1.LabelNodeExcludeBalancers: "true",
			"virtual-node.interlink/type":    "virtual-kubelet",
		},
		Taints: []corev1.Taint{{Key: TaintKey, Value: "true", Effect: corev1.TaintEffectNoSchedule}},
	}
	if problems := validation.IsDNS1123Subdomain(n.Name); len(problems) > 0 {
		wrong.add("node name %q: %s", n.Name, strings.Join(problems, "; "))
	}
	if n.Address != "" {
		if _, err := netip.ParseAddr(n.Address); err != nil {
			wrong.add("POD_IP: %w", err)
		}
	}
	if subnet := string(f.PodCIDR.Subnet); subnet != "" {
		if _, err := netip.ParsePrefix(subnet); err != nil {
			wrong.add("PodCIDR.Subnet: %w", err)
		}
		n.PodCIDR = subnet
	}
	n.Capacity = capacity(f, n.Labels, wrong)
	maps.Copy(n.Labels, labels(f.NodeLabels, wrong))
	for _, taint := range f.NodeTaints {
		if taint.Key == "" {
			wrong.add("NodeTaints: a taint has no Key")
			continue
		}
		n.Taints = append(n.Taints, corev1.Taint{Key: string(taint.Key), Value: string(taint.Value), Effect: Effect(string(taint.Effect))})
	}
	n.Port = int32(port(environment, wrong)) //nolint:gosec // a port fits
	return n
}

// Effect is the effect of that name, or NoSchedule for any other text, as upstream.
func Effect(name string) corev1.TaintEffect {
	effect := corev1.TaintEffect(name)
	if effect == corev1.TaintEffectNoExecute || effect == corev1.TaintEffectPreferNoSchedule {
		return effect
	}
	return corev1.TaintEffectNoSchedule
}

func labels(list []string, wrong *problems) map[string]string {
	set := map[string]string{}
	for _, item := range list {
		key, value, ok := strings.Cut(item, "=")
		if !ok {
			wrong.add("NodeLabels: %q is not key=value", item)
			continue
		}
		problems := slices.Concat(validation.IsQualifiedName(key), validation.IsValidLabelValue(value))
		if len(problems) > 0 {
			wrong.add("NodeLabels: %q: %s", item, strings.Join(problems, "; "))
			continue
		}
		set[key] = value
	}
	return set
}

// capacity adds up the resources, and labels the models of accelerators.
func capacity(f *file, nodeLabels map[string]string, wrong *problems) corev1.ResourceList {
	list := corev1.ResourceList{}
	for _, item := range []struct {
		name  corev1.ResourceName
		key   string
		value text
		other string
	}{
		{corev1.ResourceCPU, "CPU", f.Resources.CPU, "100"},
		{corev1.ResourceMemory, "Memory", f.Resources.Memory, "3000G"},
		{corev1.ResourcePods, "Pods", f.Resources.Pods, "10000"},
	} {
		quantity, err := resource.ParseQuantity(orElse(string(item.value), item.other))
		if err != nil || quantity.Sign() < 0 {
			wrong.add("Resources.%s: %q is no quantity", item.key, item.value)
			continue
		}
		list[item.name] = quantity
	}
	models := map[string]string{
		"nvidia.com/gpu": "nvidia-gpu-type", "xilinx.com/fpga": "xilinx-fpga-type", "intel.com/fpga": "intel-fpga-type",
	}
	for _, accelerator := range f.Resources.Accelerators {
		kind := string(accelerator.ResourceType)
		quantity, err := resource.ParseQuantity(orElse(string(accelerator.Available), "0"))
		switch {
		case len(validation.IsQualifiedName(kind)) > 0 || !strings.Contains(kind, "/"):
			wrong.add("Resources.Accelerators: %q is no name of an extended resource like nvidia.com/gpu", kind)
			continue
		case err != nil || quantity.Sign() < 0 || quantity.Value()*1000 != quantity.MilliValue():
			wrong.add("Resources.Accelerators: %s: Available %q is no whole number", kind, accelerator.Available)
			continue
		}
		sum := list[corev1.ResourceName(kind)]
		sum.Add(quantity)
		list[corev1.ResourceName(kind)] = sum
		if label := models[kind]; label != "" && accelerator.Model != "" {
			nodeLabels[label] = string(accelerator.Model)
		}
	}
	return list
}

func port(environment Environment, wrong *problems) int {
	number, err := strconv.Atoi(orElse(environment.KubeletPort, "5820"))
	if err != nil || number < 0 || number > 65535 {
		wrong.add("KUBELET_PORT: %q is no port", environment.KubeletPort)
	}
	return number
}

func kubelet(f *file, environment Environment, wrong *problems) Kubelet {
	k := Kubelet{
		Address:      net.JoinHostPort(orElse(environment.KubeletAddress, "0.0.0.0"), orElse(environment.KubeletPort, "5820")),
		CertFile:     string(f.KubeletCertFile),
		KeyFile:      string(f.KubeletKeyFile),
		SignerName:   orElse(string(f.KubeletCSRSignerName), "kubernetes.io/kubelet-serving"),
		SelfSigned:   f.DisableCSR,
		ClientCAFile: f.KubeletClientCAFile,
		CertDir:      f.KubeletCertDir,
	}
	if (k.CertFile == "") != (k.KeyFile == "") {
		wrong.add("KubeletCertFile and KubeletKeyFile: set both or none")
	}
	return k
}
