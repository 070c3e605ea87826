// SPDX-License-Identifier: Apache-2.0

package pool

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

const (
	// labelTemplate is a digest of what an OpenStackNode was made from, as far as a change of
	// it needs another machine.
	labelTemplate = "osn.infn.it/nodepool-template"
	// annotationRetiring is on a Node that the pool has closed to pods, and says since when.
	annotationRetiring = "osn.infn.it/retiring"

	suffixLength, digestLength = 5, 10
)

// nodeName is the name of a pool's i-th place. A pool's next node gets the first place that
// is free. So two attempts to make the same node, of which the second does not know of the
// first, give it the same name, and the second fails.
func nodeName(pool *osnodev1.OpenStackNodePool, i int) string {
	return pool.Name + "-" + digest(string(pool.UID) + "/" + strconv.Itoa(i))[:suffixLength]
}

// freeNames are the names of the first places that nobody has.
func freeNames(pool *osnodev1.OpenStackNodePool, taken map[string]bool, count int) []string {
	var names []string
	for i := 0; len(names) < count; i++ {
		name := nodeName(pool, i)
		if !taken[name] {
			names = append(names, name)
			taken[name] = true // two places may have the same name
		}
	}
	return names
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
}

// templateDigest changes when the pool's nodes have to be made anew. Labels, taints, policy
// and drain timeout can be changed on what there is.
func templateDigest(pool *osnodev1.OpenStackNodePool) (string, error) {
	template := pool.Spec.Template.DeepCopy()
	template.Labels, template.Taints, template.DrainTimeout, template.Policy = nil, nil, nil, ""
	text, err := json.Marshal(template)
	if err != nil {
		return "", fmt.Errorf("digest of the template of pool %q: %w", pool.Name, err)
	}
	return digest(string(text))[:digestLength], nil
}

// newNode is an OpenStackNode of the pool. Its owner is the pool's, whose labels admission
// has written.
func newNode(pool *osnodev1.OpenStackNodePool, name, flavor string) (*osnodev1.OpenStackNode, error) {
	made, err := templateDigest(pool)
	if err != nil {
		return nil, err
	}
	own := map[string]string{osnodev1.LabelPool: pool.Name, labelTemplate: made}
	for _, key := range []string{osnodev1.LabelUserID, osnodev1.LabelUserName, osnodev1.LabelProjectID, osnodev1.LabelProjectName} {
		if value, ok := pool.Labels[key]; ok {
			own[key] = value
		}
	}
	template := pool.Spec.Template.DeepCopy()
	return &osnodev1.OpenStackNode{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pool.Namespace, Name: name, Labels: own,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pool, osnodev1.GroupVersion().WithKind("OpenStackNodePool"))},
		},
		Spec: osnodev1.OpenStackNodeSpec{
			Flavor: flavor, KeyPair: template.KeyPair, Policy: template.Policy,
			AvailabilityZone: template.AvailabilityZone, Image: template.Image, Provider: template.Provider, Region: template.Region,
			SecurityGroups: template.SecurityGroups, UserData: template.UserData, DrainTimeout: template.DrainTimeout, RootDisk: template.RootDisk,
		},
	}, nil
}

// selector finds a pool's OpenStackNodes.
func selector(pool *osnodev1.OpenStackNodePool) labels.Set {
	return labels.Set{osnodev1.LabelPool: pool.Name}
}

// belongs tells that an OpenStackNode is the pool's: a label alone anybody may write.
func belongs(osn *osnodev1.OpenStackNode, pool *osnodev1.OpenStackNodePool) bool {
	return metav1.IsControlledBy(osn, pool)
}

func keyOf(object client.Object) types.NamespacedName { return client.ObjectKeyFromObject(object) }

// nodeKey names an OpenStackNode among all, for package plan.
func nodeKey(osn *osnodev1.OpenStackNode) string { return osn.Namespace + "/" + osn.Name }

// limits are what autoscaling allows; a pool without it has what spec.replicas says.
func limits(pool *osnodev1.OpenStackNodePool) (least, most int) {
	if !autoscaled(pool) {
		return 0, maxReplicas
	}
	return int(pool.Spec.Autoscaling.Min), int(pool.Spec.Autoscaling.Max)
}

// maxReplicas is the CRD's limit.
const maxReplicas = 1000

func autoscaled(pool *osnodev1.OpenStackNodePool) bool {
	return pool.Spec.Autoscaling != nil && pool.Spec.Autoscaling.Enabled
}

// driver is who decides about the pool's size.
func driver(pool *osnodev1.OpenStackNodePool) osnodev1.Driver {
	switch {
	case !autoscaled(pool):
		return osnodev1.DriverNone
	case pool.Spec.Autoscaling.Driver == "":
		return osnodev1.DriverBuiltin
	default:
		return pool.Spec.Autoscaling.Driver
	}
}

// desired is how many nodes the pool has to have.
func desired(pool *osnodev1.OpenStackNodePool) int {
	count := 0
	if pool.Spec.Replicas != nil {
		count = int(*pool.Spec.Replicas)
	}
	least, most := limits(pool)
	return min(max(count, least), most)
}
