// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cloudveneto/caas/osnode/pool/plan"
)

// BenchmarkDecide is a spike: 1,000 pods in 50 namespaces with a pool of four flavors each.
func BenchmarkDecide(b *testing.B) {
	input := spike(1000, 50)
	b.ReportAllocs()
	for b.Loop() {
		if result := plan.Decide(input); len(result.Launches) == 0 {
			b.Fatal("nothing was decided")
		}
	}
}

// BenchmarkDecideOneNamespace has all 1,000 pods in one namespace.
func BenchmarkDecideOneNamespace(b *testing.B) {
	input := spike(1000, 1)
	b.ReportAllocs()
	for b.Loop() {
		if result := plan.Decide(input); len(result.Launches) == 0 {
			b.Fatal("nothing was decided")
		}
	}
}

func spike(podCount, poolCount int) plan.Input {
	random := rand.New(rand.NewPCG(7, 7))
	input := plan.Input{Pools: map[types.NamespacedName]plan.Pool{}, Quotas: map[string]plan.Quota{}}
	for p := range poolCount {
		name := fmt.Sprintf("pool-%02d", p)
		namespace := fmt.Sprintf("project-%02d", p)
		input.Pools[key(name)] = plan.Pool{Room: 1000, Max: 1000, Serves: map[string]bool{namespace: true}}
		input.Quotas[name] = plan.Quota{Cores: 4000, Instances: -1, MemoryMiB: -1}
		for _, size := range []int{2, 4, 8, 16} {
			g := flavor(name, fmt.Sprintf("c%d", size), size, int64(size)*2)
			g.Account = name
			input.Groups = append(input.Groups, g)
		}
	}
	for i := range podCount {
		object := pod(fmt.Sprintf("pod-%04d", i), fmt.Sprintf("%dm", 100+random.IntN(2000)), fmt.Sprintf("%dMi", 100+random.IntN(3000)), in(fmt.Sprintf("project-%02d", i%poolCount)))
		input.Pods = append(input.Pods, plan.NewPod(object))
	}
	return input
}
