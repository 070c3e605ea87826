// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/osnode/pool/plan"
)

const (
	gibi    = int64(1) << 30
	account = "cloud/region/project"
)

type podOption func(*corev1.Pod)

func pod(name string, cpu, memory string, options ...podOption) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "cms", Name: name, UID: types.UID(name)}}
	p.Spec.Containers = []corev1.Container{{Name: "main", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
	}}}}
	for _, option := range options {
		option(p)
	}
	return p
}

func in(namespace string) podOption { return func(p *corev1.Pod) { p.Namespace = namespace } }

func on(key, value string) podOption {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{key: value} }
}

func tolerating(key string) podOption {
	return func(p *corev1.Pod) {
		p.Spec.Tolerations = append(p.Spec.Tolerations, corev1.Toleration{Key: key, Operator: corev1.TolerationOpExists})
	}
}

func withGPU(p *corev1.Pod) {
	p.Spec.Containers[0].Resources.Requests["nvidia.com/gpu"] = resource.MustParse("1")
}

func spread(p *corev1.Pod) {
	p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{TopologyKey: corev1.LabelHostname}},
	}}
}

func key(name string) types.NamespacedName { return types.NamespacedName{Namespace: "cms", Name: name} }

func room(cpus int, memoryGiB int64) plan.Resources {
	return plan.Resources{MilliCPU: int64(cpus) * 1000, Memory: memoryGiB * gibi, Pods: 110}
}

func flavor(pool, name string, cpus int, memoryGiB int64, options ...func(*plan.Group)) plan.Group {
	g := plan.Group{
		Pool: key(pool), Flavor: name, Account: account, Template: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"pool": pool}}},
		Allocatable: room(cpus, memoryGiB), VCPUs: cpus, MemoryMiB: int(memoryGiB) * 1024,
	}
	for _, option := range options {
		option(&g)
	}
	return g
}

func gpus(g *plan.Group) {
	g.GPUs = 1
	g.Allocatable.Other = map[corev1.ResourceName]int64{"nvidia.com/gpu": 1}
}

func tainted(g *plan.Group) {
	g.Template.Spec.Taints = []corev1.Taint{{Key: "site", Value: "x", Effect: corev1.TaintEffectNoSchedule}}
}

func blocked(g *plan.Group) { g.Blocked = plan.Refusal{Reason: plan.BackedOff, Message: "not now"} }

func serving(rooms int) plan.Pool {
	return plan.Pool{Room: rooms, Max: rooms, Serves: map[string]bool{"cms": true}}
}

func nodeNamed(name string, ready bool, free plan.Resources) plan.Node {
	return plan.Node{
		Name: name, Ready: ready, Allocatable: room(8, 16), Free: free,
		Object: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"pool": "a"}}},
	}
}

func pods(all ...*corev1.Pod) []plan.Pod {
	var read []plan.Pod
	for _, p := range all {
		read = append(read, plan.NewPod(p))
	}
	return read
}

func many(count int, cpu, memory string, options ...podOption) []*corev1.Pod {
	var all []*corev1.Pod
	for i := range count {
		all = append(all, pod(fmt.Sprintf("%s-%03d", cpu, i), cpu, memory, options...))
	}
	return all
}

func flavors(result plan.Result) map[string]int {
	count := map[string]int{}
	for _, launch := range result.Launches {
		count[launch.Pool.Name+"/"+launch.Flavor]++
	}
	return count
}

func TestDecide(t *testing.T) {
	t.Parallel()
	medium, large := flavor("a", "medium", 4, 8), flavor("a", "large", 8, 16)
	tests := map[string]struct {
		pods    []*corev1.Pod
		change  func([]plan.Pod)
		nodes   []plan.Node
		groups  []plan.Group
		room    int
		quota   map[string]plan.Quota
		want    map[string]int
		placed  map[types.UID]string
		refused map[types.UID]plan.Reason
		limited plan.Reason
	}{
		"nothing waits": {groups: []plan.Group{medium}, room: 5, want: map[string]int{}},
		"one small pod gets the cheapest flavor": {
			pods: many(1, "1", "1Gi"), groups: []plan.Group{large, medium}, room: 5, want: map[string]int{"a/medium": 1},
		},
		"a pod too large for the cheapest gets the next": {
			pods: many(1, "6", "1Gi"), groups: []plan.Group{medium, large}, room: 5, want: map[string]int{"a/large": 1},
		},
		"of the same vCPUs, fewer machines": {
			pods: many(8, "1", "1Gi"), groups: []plan.Group{medium, large}, room: 5, want: map[string]int{"a/large": 1},
		},
		"of two sizes, the fewest vCPUs": {
			pods: append(many(1, "6", "1Gi"), many(6, "1", "1Gi")...), groups: []plan.Group{medium, large}, room: 5,
			want: map[string]int{"a/medium": 1, "a/large": 1},
		},
		"memory decides": {
			pods: many(2, "1", "7Gi"), groups: []plan.Group{medium}, room: 5, want: map[string]int{"a/medium": 2},
		},
		"a node with room is used": {
			pods: many(2, "1", "1Gi"), nodes: []plan.Node{nodeNamed("n", true, room(1, 2))}, groups: []plan.Group{medium}, room: 5,
			want: map[string]int{"a/medium": 1}, placed: map[types.UID]string{"1-000": "n"},
		},
		"a node on its way counts": {
			pods: many(4, "2", "1Gi"), nodes: []plan.Node{nodeNamed("n", false, room(8, 16))}, groups: []plan.Group{medium}, room: 5,
			want: map[string]int{}, placed: map[types.UID]string{"2-000": "n", "2-001": "n", "2-002": "n", "2-003": "n"},
		},
		"a closed node does not count": {
			pods: many(1, "1", "1Gi"), nodes: []plan.Node{func() plan.Node {
				n := nodeNamed("n", true, room(8, 16))
				n.Object.Spec.Unschedulable = true
				return n
			}()}, groups: []plan.Group{medium}, room: 5, want: map[string]int{"a/medium": 1},
		},
		"a pod that distrusts ready nodes gets another": {
			pods: many(1, "1", "1Gi"), change: func(all []plan.Pod) { all[0].Distrust = true },
			nodes: []plan.Node{nodeNamed("n", true, room(8, 16))}, groups: []plan.Group{medium}, room: 5, want: map[string]int{"a/medium": 1},
		},
		"a held pod waits for its node": {
			pods: many(1, "1", "1Gi", spread), change: func(all []plan.Pod) { all[0].Held = "n" },
			nodes: []plan.Node{nodeNamed("n", true, room(8, 16))}, groups: []plan.Group{medium}, room: 5,
			want: map[string]int{}, placed: map[types.UID]string{"1-000": "n"},
		},
		"a held pod whose room others have taken does not wait": {
			pods: many(1, "3", "1Gi"), change: func(all []plan.Pod) { all[0].Held = "n" },
			nodes: []plan.Node{nodeNamed("n", true, room(1, 16))}, groups: []plan.Group{medium}, room: 5, want: map[string]int{"a/medium": 1},
		},
		"the maximum": {
			pods: many(3, "4", "1Gi"), groups: []plan.Group{medium}, room: 2, want: map[string]int{"a/medium": 2},
			refused: map[types.UID]plan.Reason{"4-002": plan.AtMaximum}, limited: plan.AtMaximum,
		},
		"the quota's cores": {
			pods: many(3, "4", "1Gi"), groups: []plan.Group{medium}, room: 5, quota: map[string]plan.Quota{account: {Cores: 9, Instances: -1, MemoryMiB: -1}},
			want: map[string]int{"a/medium": 2}, refused: map[types.UID]plan.Reason{"4-002": plan.OutOfQuota}, limited: plan.OutOfQuota,
		},
		"the quota's instances": {
			pods: many(1, "4", "1Gi"), groups: []plan.Group{medium}, room: 5, quota: map[string]plan.Quota{account: {Cores: -1, Instances: 0, MemoryMiB: -1}},
			want: map[string]int{}, refused: map[types.UID]plan.Reason{"4-000": plan.OutOfQuota}, limited: plan.OutOfQuota,
		},
		"a quota too small for the best choice": {
			pods: many(8, "1", "1Gi"), groups: []plan.Group{medium, large}, room: 5, quota: map[string]plan.Quota{account: {Cores: 6, Instances: 9, MemoryMiB: -1}},
			want: map[string]int{"a/medium": 1}, limited: plan.OutOfQuota,
			refused: map[types.UID]plan.Reason{"1-004": plan.OutOfQuota, "1-005": plan.OutOfQuota, "1-006": plan.OutOfQuota, "1-007": plan.OutOfQuota},
		},
		"a flavor that is backed off": {
			pods: many(1, "1", "1Gi"), groups: []plan.Group{flavor("a", "medium", 4, 8, blocked), large}, room: 5, want: map[string]int{"a/large": 1},
		},
		"all flavors backed off": {
			pods: many(1, "1", "1Gi"), groups: []plan.Group{flavor("a", "medium", 4, 8, blocked)}, room: 5, want: map[string]int{},
			refused: map[types.UID]plan.Reason{"1-000": plan.BackedOff}, limited: plan.BackedOff,
		},
		"too large for all": {
			pods: many(1, "32", "1Gi"), groups: []plan.Group{medium, large}, room: 5, want: map[string]int{},
			refused: map[types.UID]plan.Reason{"32-000": plan.TooLarge},
		},
		"another namespace": {
			pods: many(1, "1", "1Gi", in("qst")), groups: []plan.Group{medium}, room: 5, want: map[string]int{},
			refused: map[types.UID]plan.Reason{"1-000": plan.NoMatch},
		},
		"the node selector picks the pool": {
			pods: many(1, "1", "1Gi", on("pool", "b")), groups: []plan.Group{medium, flavor("b", "large", 8, 16)}, room: 5, want: map[string]int{"b/large": 1},
		},
		"a taint that is not tolerated": {
			pods: many(1, "1", "1Gi"), groups: []plan.Group{flavor("a", "medium", 4, 8, tainted)}, room: 5, want: map[string]int{},
			refused: map[types.UID]plan.Reason{"1-000": plan.NoMatch},
		},
		"a taint that is tolerated": {
			pods: many(1, "1", "1Gi", tolerating("site")), groups: []plan.Group{flavor("a", "medium", 4, 8, tainted)}, room: 5, want: map[string]int{"a/medium": 1},
		},
		"a GPU": {
			pods: many(1, "1", "1Gi", withGPU), groups: []plan.Group{medium, flavor("a", "gpu", 16, 64, gpus)}, room: 5, want: map[string]int{"a/gpu": 1},
		},
		"no GPU for a pod without": {
			pods: many(8, "1", "1Gi"), groups: []plan.Group{flavor("a", "gpu", 2, 64, gpus), medium}, room: 5, want: map[string]int{"a/medium": 2},
		},
		"pods that keep apart get one machine at a time": {
			pods: many(5, "1", "1Gi", spread), groups: []plan.Group{medium}, room: 5, want: map[string]int{"a/medium": 1},
		},
		"pods that keep apart wait for what is on its way": {
			pods: many(2, "1", "1Gi", spread), nodes: []plan.Node{nodeNamed("n", false, room(0, 0))}, groups: []plan.Group{medium}, room: 5,
			want: map[string]int{}, placed: map[types.UID]string{"1-000": "n", "1-001": "n"},
		},
		"110 pods of nothing are a full node": {
			pods: many(111, "0", "0"), groups: []plan.Group{medium}, room: 5, want: map[string]int{"a/medium": 2},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			read := pods(tc.pods...)
			if tc.change != nil {
				tc.change(read)
			}
			input := plan.Input{
				Pods: read, Nodes: tc.nodes, Groups: tc.groups, Quotas: tc.quota,
				Pools: map[types.NamespacedName]plan.Pool{key("a"): serving(tc.room), key("b"): serving(tc.room)},
			}
			result := plan.Decide(input)
			assert.Equal(t, tc.want, flavors(result))
			refused := map[types.UID]plan.Reason{}
			for uid, refusal := range result.Refused {
				refused[uid] = refusal.Reason
				assert.NotEmpty(t, refusal.Message)
			}
			if tc.refused == nil {
				tc.refused = map[types.UID]plan.Reason{}
			}
			assert.Equal(t, tc.refused, refused)
			if tc.placed == nil {
				tc.placed = map[types.UID]string{}
			}
			assert.Equal(t, tc.placed, result.Placed)
			assert.Equal(t, tc.limited, result.Limited[key("a")].Reason)

			slices.Reverse(input.Pods)
			assert.Equal(t, result.Launches, plan.Decide(input).Launches, "the order of the pods does not matter")
		})
	}
}

// TestDecideKeepsLimits tries what nobody thought of: whatever the input, the machines hold
// their pods, no limit is broken, and each pod is accounted for once.
func TestDecideKeepsLimits(t *testing.T) {
	t.Parallel()
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 1))
		input, originals := randomInput(random)
		result := plan.Decide(input)
		check(t, input, originals, result, seed)
		if t.Failed() {
			return
		}
	}
}

func randomInput(random *rand.Rand) (plan.Input, map[types.UID]plan.Pod) {
	input := plan.Input{Pools: map[types.NamespacedName]plan.Pool{}, Quotas: map[string]plan.Quota{}}
	originals := map[types.UID]plan.Pod{}
	for p := range 1 + random.IntN(3) {
		name := fmt.Sprintf("pool-%d", p)
		input.Pools[key(name)] = plan.Pool{Room: random.IntN(6), Max: 6, Serves: map[string]bool{"cms": true, "qst": random.IntN(2) == 0}}
		for f := range 1 + random.IntN(4) {
			g := flavor(name, fmt.Sprintf("flavor-%d", f), 1<<random.IntN(5), 1<<random.IntN(6))
			g.Account = fmt.Sprintf("account-%d", random.IntN(2))
			for _, option := range []func(*plan.Group){gpus, tainted, blocked} {
				if random.IntN(5) == 0 {
					option(&g)
				}
			}
			input.Groups = append(input.Groups, g)
		}
	}
	for a := range random.IntN(3) {
		input.Quotas[fmt.Sprintf("account-%d", a)] = plan.Quota{Cores: random.IntN(64) - 1, Instances: random.IntN(8) - 1, MemoryMiB: random.IntN(1<<17) - 1}
	}
	for n := range random.IntN(4) {
		input.Nodes = append(input.Nodes, nodeNamed(fmt.Sprintf("node-%d", n), random.IntN(2) == 0, room(random.IntN(9), int64(random.IntN(17)))))
	}
	for i := range random.IntN(60) {
		object := pod(fmt.Sprintf("pod-%02d", i), fmt.Sprintf("%dm", random.IntN(9000)), fmt.Sprintf("%dMi", random.IntN(20000)))
		for _, option := range []podOption{in("qst"), on("pool", "pool-1"), tolerating("site"), withGPU, spread} {
			if random.IntN(6) == 0 {
				option(object)
			}
		}
		read := plan.NewPod(object)
		originals[object.UID] = read
		input.Pods = append(input.Pods, read)
	}
	return input, originals
}

func check(t *testing.T, input plan.Input, originals map[types.UID]plan.Pod, result plan.Result, seed uint64) {
	t.Helper()
	seen := map[types.UID]int{}
	machines := map[types.NamespacedName]int{}
	quotas := map[string]plan.Quota{}
	for _, launch := range result.Launches {
		at := slices.IndexFunc(input.Groups, func(g plan.Group) bool { return g.Pool == launch.Pool && g.Flavor == launch.Flavor })
		require.GreaterOrEqual(t, at, 0)
		group := input.Groups[at]
		assert.Zero(t, group.Blocked.Reason, "seed %d", seed)
		machines[launch.Pool]++
		used := quotas[group.Account]
		quotas[group.Account] = plan.Quota{Cores: used.Cores + group.VCPUs, Instances: used.Instances + 1, MemoryMiB: used.MemoryMiB + group.MemoryMiB}
		free := group.Allocatable
		assert.NotEmpty(t, launch.Pods, "seed %d", seed)
		for _, uid := range launch.Pods {
			seen[uid]++
			one := originals[uid]
			assert.True(t, input.Pools[launch.Pool].Serves[one.Namespace], "seed %d", seed)
			if one.Alone { // it waits for the machine, and may not be the one to get it
				assert.True(t, one.Requests.Fits(group.Allocatable), "seed %d", seed)
				continue
			}
			assert.True(t, one.Requests.Fits(free), "seed %d: pod %s fits", seed, uid)
			free = free.Sub(one.Requests)
		}
	}
	for name, count := range machines {
		assert.LessOrEqual(t, count, input.Pools[name].Room, "seed %d", seed)
	}
	for name, used := range quotas {
		limit, limited := input.Quotas[name]
		if !limited {
			continue
		}
		for _, amount := range [][2]int{{used.Cores, limit.Cores}, {used.Instances, limit.Instances}, {used.MemoryMiB, limit.MemoryMiB}} {
			assert.True(t, amount[1] < 0 || amount[0] <= amount[1], "seed %d: %v", seed, amount)
		}
	}
	for uid := range result.Placed {
		seen[uid]++
	}
	for uid := range result.Refused {
		seen[uid]++
	}
	for uid := range originals {
		assert.Equal(t, 1, seen[uid], "seed %d: pod %s has one answer", seed, uid)
	}
}
