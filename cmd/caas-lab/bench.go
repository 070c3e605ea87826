// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cloudveneto/caas/internal/bench"
	"github.com/cloudveneto/caas/internal/lab"
	"github.com/cloudveneto/caas/internal/lab/kwok"
	"github.com/cloudveneto/caas/internal/lab/network"
	"github.com/cloudveneto/caas/internal/lab/offload"
	"github.com/cloudveneto/caas/sidecar/plugin/translate"
)

const (
	benchNamespace = "bench"
	benchImage     = "docker.io/library/busybox:1.36"
	fakeLabel      = "lab.caas/fake"
)

type benchOptions struct {
	focus, out, binDir, profiles string
	scenarios                    []string
	idle, workers                int
	bursts, status               []int
	keep, noTenancy              bool
}

func newBench(name *string) *cobra.Command {
	o := &benchOptions{}
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the offloading path beside running pods directly",
		Long: `bench makes a lab of its own (bench, unless --name says otherwise), measures, writes the figures to --out, one JSON
object per line, prints them as a table, and removes the lab. It ends well when it measured, whatever the figures.
Figures that the file has from earlier stay unless they are measured again.

Scenarios, in the order in which they are made:

` + describeScenarios() + `
With --pprof each scenario leaves, in a directory of its own, profiles of the three programs: where their processor time
went while it ran, ten seconds in a file, and their heaps and goroutines when it was over ("idle" also in the middle).`,
		Example: `  caas-lab bench                                       # everything, about a quarter of an hour
  caas-lab bench --scenarios bursts --bursts 300       # one scenario, smaller
  caas-lab bench --scenarios waves,idle --pprof prof   # and where the time and the memory went:
  go tool pprof -top bin/virtual-kubelet prof/waves/virtual-kubelet.cpu-*.pprof
  go tool pprof -top -sample_index=inuse_space bin/virtual-kubelet prof/idle/virtual-kubelet.heap-full.pprof`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("name") {
				*name = "bench"
			}
			if o.focus != "" && o.focus != "offload" {
				return fmt.Errorf("--focus %q: there is only the group offload", o.focus)
			}
			return o.run(cmd, *name)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.focus, "focus", "", "what to measure: offload; empty for everything")
	flags.StringSliceVar(&o.scenarios, "scenarios", nil, "which scenarios, with commas between them; all of them without")
	flags.StringVar(&o.profiles, "pprof", "", "directory to keep profiles of the programs in")
	flags.StringVar(&o.out, "out", "bench/out/latest.json", "file for the figures")
	flags.StringVar(&o.binDir, "bin", besides(), "directory of this project's programs")
	hiddenTenancyFlag(cmd, &o.noTenancy)
	flags.IntSliceVar(&o.bursts, "bursts", []int{100, 300, 1000}, "sizes of the bursts")
	flags.IntVar(&o.workers, "workers", 300, "number of workers that the waves rise to")
	flags.IntSliceVar(&o.status, "status", []int{20, 200, 1000}, "numbers of pods of the status measurement")
	flags.IntVar(&o.idle, "idle", 5000, "number of pods of the idle measurement")
	flags.BoolVar(&o.keep, "keep", false, "leave the lab running")
	return cmd
}

func describeScenarios() string {
	var text strings.Builder
	for _, scenario := range bench.Scenarios() {
		_, _ = fmt.Fprintf(&text, "  %-8s %s\n", scenario.Name, scenario.About)
	}
	return text.String()
}

// validate reports all that cannot be measured, before anything is started.
func (o *benchOptions) validate() ([]bench.Scenario, error) {
	scenarios, err := bench.Pick(o.scenarios...)
	if err != nil {
		err = fmt.Errorf("--scenarios: %w", err)
	}
	problems := []error{err}
	for flag, sizes := range map[string][]int{"bursts": o.bursts, "status": o.status, "workers": {o.workers}, "idle": {o.idle}} {
		for _, size := range sizes {
			if size < 1 {
				problems = append(problems, fmt.Errorf("--%s: %d: want at least one pod", flag, size))
			}
		}
	}
	return scenarios, errors.Join(problems...)
}

func (o *benchOptions) run(cmd *cobra.Command, name string) (err error) {
	ctx := cmd.Context()
	scenarios, err := o.validate()
	if err != nil {
		return err
	}
	report := &bench.Report{Progress: cmd.OutOrStdout()}
	l, err := labFor(cmd, lab.Config{Name: name, Programs: o.binDir, NoTenancy: o.noTenancy})
	if err != nil {
		return err
	}
	if !o.keep {
		defer func() {
			down, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
			defer cancel()
			_, failure := lab.Down(down, name, nil)
			err = errors.Join(err, failure)
		}()
	}
	measure, err := o.prepare(cmd, l)
	if err != nil {
		return err
	}
	measure.Report, measure.Log = report, cmd.OutOrStdout()
	failure := measure.Run(ctx, scenarios)
	return errors.Join(failure, report.Publish(o.out))
}

// prepare starts two paths: one to the real nodes, one to fake ones.
func (o *benchOptions) prepare(cmd *cobra.Command, l *lab.Lab) (*bench.Offload, error) {
	ctx := cmd.Context()
	origin, caas, err := clients(l)
	if err != nil {
		return nil, err
	}
	for _, client := range []kubernetes.Interface{origin, caas} {
		if err := ensureNamespace(ctx, client, benchNamespace); err != nil {
			return nil, err
		}
	}
	say(cmd, "starting fake nodes\n")
	cluster, err := l.Cluster(lab.CaaS)
	if err != nil {
		return nil, err
	}
	labels := map[string]string{fakeLabel: "true"}
	if l.Tenancy() {
		if labels[lab.NodePoolLabel], err = l.SharedPool(offload.Project); err != nil {
			return nil, err
		}
	}
	_, err = kwok.Start(ctx, kwok.Config{
		Client: caas, Kubeconfig: cluster.InsideKubeconfig(), Dir: l.Dir() + "/kwok", Nodes: 10, NetNS: l.NetNS(),
		Labels: labels, Taints: []string{fakeLabel + "=true:NoSchedule"}, EndWithStarter: true,
	})
	if err != nil {
		return nil, err
	}
	say(cmd, "starting the offloading paths\n")
	realNodes := offload.Config{Lab: l, BinDir: o.binDir, Node: "bench-real", RemoteNamespace: benchNamespace, Pprof: true}
	realPrograms, err := startPrograms(ctx, realNodes)
	if err != nil {
		return nil, err
	}
	fake := offload.Config{
		Lab: l, BinDir: o.binDir, Node: "bench-fake", Index: 1, RemoteNamespace: benchNamespace, Pprof: true,
		NodeSelector: map[string]string{fakeLabel: "true"},
		Tolerations:  []corev1.Toleration{{Key: fakeLabel, Operator: corev1.TolerationOpExists}},
	}
	fakePrograms, err := startPrograms(ctx, fake)
	if err != nil {
		return nil, err
	}
	direct := bench.Side{Name: "direct", Client: caas, User: caas, Namespace: benchNamespace, Place: func(*corev1.PodSpec) {}}
	if l.Tenancy() {
		if direct.User, err = benchUser(ctx, l); err != nil {
			return nil, err
		}
		direct.Annotations = map[string]string{translate.AnnotationPolicy: "shared"}
	}
	directFake := direct
	directFake.Place = func(spec *corev1.PodSpec) { spec.NodeSelector, spec.Tolerations = fake.NodeSelector, fake.Tolerations }
	return &bench.Offload{
		Origin:     bench.Side{Name: "origin", Client: origin, User: origin, Namespace: benchNamespace, Place: onVirtual(realNodes.Node)},
		OriginFake: bench.Side{Name: "origin", Client: origin, User: origin, Namespace: benchNamespace, Place: onVirtual(fake.Node)},
		Direct:     direct,
		DirectFake: directFake,
		Real:       realPrograms, Fake: fakePrograms, Image: benchImage,
		Bursts: o.bursts, Workers: o.workers, Status: o.status, Idle: o.idle,
		Profiler: bench.Profiler{Dir: o.profiles, Client: &http.Client{Transport: &http.Transport{DialContext: network.Dialer(l.NetNS())}}},
	}, nil
}

// benchUser is whom the sidecars log in as. The token is good for an hour; a benchmark takes a third of it.
func benchUser(ctx context.Context, l *lab.Lab) (*kubernetes.Clientset, error) {
	path := l.Dir() + "/bench-user.kubeconfig"
	login := lab.Login{User: offload.User, Project: offload.Project, Namespace: benchNamespace}
	if err := l.TenantKubeconfig(ctx, path, login); err != nil {
		return nil, err
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig of %s: %w", offload.User, err)
	}
	config.QPS, config.WarningHandler = -1, rest.NoWarnings{} // one per pod, on what the annotation means
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("client of %s: %w", offload.User, err)
	}
	return client, nil
}

// startPrograms starts a path and says how its programs are asked.
func startPrograms(ctx context.Context, config offload.Config) ([]bench.Program, error) {
	path, err := startPath(ctx, config.Lab, config)
	if err != nil {
		return nil, err
	}
	pids, err := path.PIDs()
	if err != nil {
		return nil, err
	}
	var programs []bench.Program
	for _, name := range path.Components() {
		programs = append(programs, bench.Program{Name: name, PID: pids[name], Ops: path.OpsAddresses()[name]})
	}
	return programs, nil
}

// onVirtual places a pod on a virtual node.
func onVirtual(node string) func(*corev1.PodSpec) {
	return func(spec *corev1.PodSpec) {
		spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
		spec.Tolerations = []corev1.Toleration{{Key: "virtual-node.interlink/no-schedule", Operator: corev1.TolerationOpExists}}
	}
}
