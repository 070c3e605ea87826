// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// fakeSize shows the machine as many processors and as much memory as its flavor has. It
// is what programs are told, among them the kubelet; the kernel gives what there is.
func fakeSize(config *Config) error {
	if config.MemoryMiB > 0 {
		if err := fakeMemory(config); err != nil {
			return err
		}
	}
	if config.VCPUs > 0 {
		return fakeProcessors(config)
	}
	return nil
}

func fakeMemory(config *Config) error {
	own, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return err
	}
	path := config.path("meminfo")
	if err := os.WriteFile(path, []byte(memoryInfo(string(own), config.MemoryMiB)), 0o644); err != nil { //nolint:gosec // as public as the real one
		return err
	}
	return bind(path, config.root("/proc/meminfo"))
}

// memoryInfo is the text of /proc/meminfo for less or more memory. No amount is larger
// than all, and there is no swap.
func memoryInfo(own string, mebibytes int) string {
	total := mebibytes << 10
	var text strings.Builder
	for line := range strings.Lines(own) {
		key, rest, _ := strings.Cut(line, ":")
		fields := strings.Fields(rest)
		if len(fields) != 2 || fields[1] != "kB" || strings.HasPrefix(key, "Vmalloc") || strings.HasPrefix(key, "DirectMap") {
			text.WriteString(line)
			continue
		}
		amount, err := strconv.Atoi(fields[0])
		switch {
		case err != nil:
			amount = 0
		case key == "MemTotal":
			amount = total
		case strings.HasPrefix(key, "Swap"):
			amount = 0
		}
		fmt.Fprintf(&text, "%-16s%8d kB\n", key+":", min(amount, total))
	}
	return text.String()
}

// fakeProcessors makes the part of /sys that the kubelet counts processors in: one socket
// without threads. Those beyond the real ones are offline, since cgroups cannot have them;
// the kubelet counts them all the same. The directory of memory nodes is hidden, since it
// has processors as well.
func fakeProcessors(config *Config) error {
	own, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return err
	}
	dir := config.path("cpu")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	all, online := processors(string(own), config.VCPUs)
	files := map[string]string{"online": list(online), "possible": list(all), "present": list(all), "offline": list(all[len(online):])}
	for _, number := range all {
		text := strconv.Itoa(number)
		for name, value := range map[string]string{
			"core_id": text, "physical_package_id": "0", "thread_siblings_list": text, "core_cpus_list": text, "core_siblings_list": list(online), "package_cpus_list": list(online),
		} {
			files[filepath.Join("cpu"+text, "topology", name)] = value
		}
		if err := os.MkdirAll(filepath.Join(dir, "cpu"+text, "cache"), mode); err != nil {
			return err
		}
	}
	for name, value := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), mode); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(value+"\n"), 0o644); err != nil { //nolint:gosec // as public as the real one
			return err
		}
	}
	if err := bind(dir, config.root("/sys/devices/system/cpu")); err != nil {
		return err
	}
	return hideNodes(config)
}

func hideNodes(config *Config) error {
	nodes := config.root("/sys/devices/system/node")
	if _, err := os.Stat(nodes); err != nil {
		return nil //nolint:nilerr // the kernel was built without them
	}
	empty := config.path("nodes")
	if err := os.MkdirAll(empty, mode); err != nil {
		return err
	}
	return bind(empty, nodes)
}

// processors are count ones, of which the first are real and online. online is the kernel's
// list of those.
func processors(online string, count int) (all, existing []int) {
	next := 0
	for part := range strings.SplitSeq(strings.TrimSpace(online), ",") {
		first, last, isRange := strings.Cut(part, "-")
		from, err := strconv.Atoi(first)
		if err != nil {
			continue
		}
		to := from
		if isRange {
			if to, err = strconv.Atoi(last); err != nil {
				continue
			}
		}
		for number := from; number <= to && len(existing) < count; number++ {
			existing = append(existing, number)
			next = number + 1
		}
	}
	all = slices.Clone(existing)
	for ; len(all) < count; next++ {
		all = append(all, next)
	}
	return all, existing
}

// list is a list of processors as the kernel writes it, without ranges.
func list(numbers []int) string {
	words := make([]string, 0, len(numbers))
	for _, number := range numbers {
		words = append(words, strconv.Itoa(number))
	}
	return strings.Join(words, ",")
}
