// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/node"
	"github.com/cloudveneto/caas/internal/lab/proc"
)

// statusTimeout bounds the questions to one cluster.
const statusTimeout = 5 * time.Second

// Status is how a lab is.
type Status struct {
	Name     string
	Complete bool
	Clusters []ClusterStatus
	// Processes are those in the LAN that are neither a control plane's nor inside a node.
	Processes []ProcessStatus
	// Problems are what keeps the lab from working, in sentences.
	Problems []string
}

// ClusterStatus is how a cluster is.
type ClusterStatus struct {
	Name, Server, Kubeconfig string
	Components               []ProcessStatus
	Nodes                    []NodeStatus
}

// ProcessStatus is how a process is.
type ProcessStatus struct {
	Name    string
	PID     int
	Running bool
	// Memory is what the process has in memory, in bytes.
	Memory int64
}

// NodeStatus is how a node is; the lab's own, or another that joined the cluster.
type NodeStatus struct {
	Name, Address, Version string
	// Ready is what the cluster says, Running whether the lab's process for it runs; it is true for a node of others.
	Ready, Running bool
}

// Healthy tells whether nothing is missing.
func (s Status) Healthy() bool { return s.Complete && len(s.Problems) == 0 }

// Status looks at everything.
func (l *Lab) Status(ctx context.Context) Status {
	status := Status{Name: l.Name(), Complete: l.complete()}
	problem := func(format string, args ...any) {
		status.Problems = append(status.Problems, fmt.Sprintf(format, args...))
	}
	if !status.Complete {
		problem("the lab did not come up completely")
	}
	if present, err := network.Exists(l.lan()); err != nil || !present {
		problem("network namespace %s is missing", l.lan())
	}
	processes, err := l.processes()
	if err != nil {
		problem("%v", err)
	}
	expected := map[string]bool{supervisorName: true}
	if l.state.OpenStack && !l.state.VMs {
		expected[hypervisorName] = true
	}
	for _, cluster := range l.clusters() {
		expected[dnsName(cluster.Name)] = true
	}
	for _, name := range l.TenancyProcesses() {
		expected[name] = true
	}
	for _, process := range processes {
		if strings.HasPrefix(process.Name(), "node-") {
			continue
		}
		now := processStatus(process)
		status.Processes = append(status.Processes, now)
		if now.Running {
			delete(expected, now.Name)
		}
	}
	for name := range expected {
		problem("%s does not run", name)
	}
	l.cloudStatus(ctx, &status)
	for _, cluster := range l.clusters() {
		status.Clusters = append(status.Clusters, cluster.status(ctx, problem))
	}
	return status
}

func processStatus(process *proc.Process) ProcessStatus {
	status := ProcessStatus{Name: process.Name(), PID: process.PID(), Running: process.Alive()}
	if status.Running {
		status.Memory = residentMemory(status.PID)
	}
	return status
}

// residentMemory is 0 when it cannot be told.
func residentMemory(pid int) int64 {
	data, err := os.ReadFile(procPath(pid, "statm"))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

func (c *Cluster) status(ctx context.Context, problem func(string, ...any)) ClusterStatus {
	status := ClusterStatus{Name: c.Name, Server: c.Server(), Kubeconfig: c.Kubeconfig()}
	plane, err := c.ControlPlane()
	if err != nil {
		problem("cluster %s was not started", c.Name)
		return status
	}
	for _, component := range plane.Components() {
		now := ProcessStatus{Name: component}
		if process, err := proc.Load(c.dir("run"), component); err == nil {
			now = processStatus(process)
		}
		status.Components = append(status.Components, now)
		if !now.Running {
			problem("%s of cluster %s does not run", component, c.Name)
		}
	}
	status.Nodes = c.nodeStatuses(ctx, problem)
	return status
}

// nodeStatuses asks the cluster for all its nodes and adds what the lab knows of its own.
func (c *Cluster) nodeStatuses(ctx context.Context, problem func(string, ...any)) []NodeStatus {
	byName := map[string]NodeStatus{}
	if err := c.listNodes(ctx, byName); err != nil {
		problem("cluster %s does not answer: %v", c.Name, err)
	}
	var statuses []NodeStatus
	for _, n := range c.lab.nodesOf(c.plan) {
		status := byName[n.name]
		delete(byName, n.name)
		status.Name, status.Address = n.name, n.address.String()
		running, err := node.Running(c.lab.runDir(), n.name)
		status.Running = running && err == nil
		switch {
		case !status.Running:
			problem("node %s does not run", n.name)
		case !status.Ready:
			problem("node %s is not ready", n.name)
		}
		statuses = append(statuses, status)
	}
	for _, status := range byName {
		statuses = append(statuses, status)
	}
	return statuses
}

func (c *Cluster) listNodes(ctx context.Context, into map[string]NodeStatus) error {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	client, err := c.client()
	if err != nil {
		return err
	}
	list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for i := range list.Items {
		n := &list.Items[i]
		status := NodeStatus{Name: n.Name, Version: n.Status.NodeInfo.KubeletVersion, Ready: nodeReady(n), Running: true}
		for _, address := range n.Status.Addresses {
			if status.Address == "" {
				status.Address = address.Address
			}
		}
		into[n.Name] = status
	}
	return nil
}
