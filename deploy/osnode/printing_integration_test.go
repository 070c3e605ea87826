// SPDX-License-Identifier: Apache-2.0

//go:build integration

package osnode_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	osnodev1 "github.com/cloudveneto/caas/osnode/api/v1"
)

const twoNodes = `---
apiVersion: osnode.infn.it/v1
kind: OpenStackNode
metadata:
  name: osn-01
spec:
  flavor: cloudveneto.medium
  keyPair: my-key
  policy: shared

---
apiVersion: osnode.infn.it/v1
kind: OpenStackNode
metadata:
  name: osn-02
spec:
  flavor: cloudveneto.large
  keyPair: my-key
  policy: private
`

// What users have seen for years, with a status that the test writes.
func TestIntegrationPrinting(t *testing.T) {
	s := newSite(t)
	namespace := s.namespace("qst", nil)
	file := filepath.Join(t.TempDir(), "osnode.yml")
	require.NoError(t, os.WriteFile(file, []byte(twoNodes), 0o600))

	assert.Equal(t, "openstacknode.osnode.infn.it/osn-01 created\nopenstacknode.osnode.infn.it/osn-02 created\n",
		s.kubectl("-n", namespace, "apply", "-f", file))
	s.running(namespace, "osn-01", "osn-01-1696949601872", "10.64.53.91")
	s.running(namespace, "osn-02", "osn-02-1696949605128", "10.64.53.251")

	age := regexp.MustCompile(`\d+s`)
	get := func(args ...string) string {
		return age.ReplaceAllString(s.kubectl(append([]string{"-n", namespace, "get", "osn"}, args...)...), "13d")
	}
	assert.Equal(t, strings.TrimPrefix(`
NAME     PHASE     OWNER                 NODE ID                POLICY    PROVIDER      VM IPV4        AGE
osn-01   Running   zangrand-at-infn.it   osn-01-1696949601872   shared    CloudVeneto   10.64.53.91    13d
osn-02   Running   zangrand-at-infn.it   osn-02-1696949605128   private   CloudVeneto   10.64.53.251   13d
`, "\n"), get())
	assert.Equal(t, strings.TrimPrefix(`
NAME     PHASE     OWNER                 NODE ID                POLICY    PROVIDER      VM FLAVOR            VM STATUS   VM IPV4        AGE
osn-01   Running   zangrand-at-infn.it   osn-01-1696949601872   shared    CloudVeneto   cloudveneto.medium   ACTIVE      10.64.53.91    13d
osn-02   Running   zangrand-at-infn.it   osn-02-1696949605128   private   CloudVeneto   cloudveneto.large    ACTIVE      10.64.53.251   13d
`, "\n"), get("-o", "wide"))
	assert.Equal(t, strings.TrimPrefix(`
NAME     PHASE     OWNER                 NODE ID                POLICY   PROVIDER      VM FLAVOR            VM STATUS   VM IPV4       AGE
osn-01   Running   zangrand-at-infn.it   osn-01-1696949601872   shared   CloudVeneto   cloudveneto.medium   ACTIVE      10.64.53.91   13d
`, "\n"), get("-o", "wide", "osn-01"))
	assert.Equal(t, strings.TrimPrefix(describedNode, "\n"), s.described(namespace, "osn-01"))

	resources := regexp.MustCompile(` +`).ReplaceAllString(s.kubectl("api-resources", "--api-group=osnode.infn.it", "--no-headers"), " ")
	assert.Contains(t, resources, "openstacknodes osn osnode.infn.it/v1 true OpenStackNode\n")
	assert.Contains(t, resources, "openstacknodepools osnp osnode.infn.it/v1 true OpenStackNodePool\n")
	explained := s.kubectl("explain", "osn.spec")
	for _, field := range []string{"availabilityZone", "flavor", "image", "keyPair", "policy", "provider", "region", "securityGroups", "userData"} {
		assert.Regexp(t, `(?m)^  `+field+`\t`, explained)
	}
	for _, field := range []string{"flavor", "keyPair", "policy"} {
		assert.Regexp(t, `(?m)^  `+field+`\t.*-required-`, explained)
	}
	assert.Regexp(t, `(?m)^enum: shared, private|ENUM:\s+shared\s+private`, s.kubectl("explain", "osn.spec.policy"))

	deleted := s.kubectl("-n", namespace, "delete", "osn", "osn-01", "osn-02")
	for i, line := range strings.Split(strings.TrimSpace(deleted), "\n") {
		assert.True(t, strings.HasPrefix(line, []string{
			`openstacknode.osnode.infn.it "osn-01" deleted`, `openstacknode.osnode.infn.it "osn-02" deleted`,
		}[i]), line)
	}
}

// running fills an OpenStackNode as the controller does.
func (s *site) running(namespace, name, nodeID, ip string) {
	s.t.Helper()
	osn := &osnodev1.OpenStackNode{}
	key := client.ObjectKey{Namespace: namespace, Name: name}
	require.NoError(s.t, s.admin.Get(s.t.Context(), key, osn))
	before := osn.DeepCopy()
	osn.Labels = map[string]string{
		osnodev1.LabelSecret: "bootstrap-token-mqkldv", osnodev1.LabelUserID: userID, osnodev1.LabelUserName: "zangrand-at-infn.it",
		osnodev1.LabelProjectID: projectID, osnodev1.LabelProjectName: "QST",
	}
	osn.Spec.AvailabilityZone, osn.Spec.Provider, osn.Spec.Region = "nova", "cloudveneto", "regionOne"
	osn.Spec.Image = &osnodev1.ImageReference{ID: new(""), Name: "almalinux9-k8s-node-26-09-2023"}
	osn.Spec.SecurityGroups, osn.Spec.UserData = []string{"K8S"}, new("")
	require.NoError(s.t, s.admin.Patch(s.t.Context(), osn, client.MergeFrom(before)))
	before = osn.DeepCopy()
	at := func(text string) *metav1.Time {
		parsed, err := time.Parse(time.RFC3339, text)
		require.NoError(s.t, err)
		return &metav1.Time{Time: parsed}
	}
	osn.Status = osnodev1.OpenStackNodeStatus{
		Created: at("2023-09-27T16:29:51Z"), Description: "The node is running", NodeID: nodeID,
		Phase: osnodev1.PhaseRunning, Provider: "CloudVeneto", Updated: at("2023-10-09T11:35:37Z"),
		Server: &osnodev1.ServerStatus{
			Created: at("2023-09-27T16:22:32Z"), ID: "ac4a4470-4469-4ed7-8520-db9ea8c0b56d", IPv4: ip, Name: name,
			Status: "ACTIVE", Updated: at("2023-10-09T11:35:37Z"),
		},
	}
	require.NoError(s.t, s.admin.Status().Patch(s.t.Context(), osn, client.MergeFrom(before)))
}

const describedNode = `
Name:         osn-01
Namespace:    qst
Labels:       SECRET=bootstrap-token-mqkldv
              osn.infn.it/projectid=55158de200964f7c8aa5ca486e6cb7ea
              osn.infn.it/projectname=QST
              osn.infn.it/userid=2ddd446e119b417791492e950553a055
              osn.infn.it/username=zangrand-at-infn.it
Annotations:  <none>
API Version:  osnode.infn.it/v1
Kind:         OpenStackNode
Metadata:
  Creation Timestamp:  -
  Generation:          2
  Resource Version:    -
  UID:                 -
Spec:
  Availability Zone:  nova
  Flavor:             cloudveneto.medium
  Image:
    Id:      
    Name:    almalinux9-k8s-node-26-09-2023
  Key Pair:  my-key
  Policy:    shared
  Provider:  cloudveneto
  Region:    regionOne
  Security Groups:
    K8S
  User Data:  
Status:
  Created:      2023-09-27T16:29:51Z
  Description:  The node is running
  Nodeid:       osn-01-1696949601872
  Phase:        Running
  Provider:     CloudVeneto
  Server:
    Created:  2023-09-27T16:22:32Z
    Id:       ac4a4470-4469-4ed7-8520-db9ea8c0b56d
    ipv4:     10.64.53.91
    Name:     osn-01
    Status:   ACTIVE
    Updated:  2023-10-09T11:35:37Z
  Updated:    2023-10-09T11:35:37Z
Events:       <none>
`

// described leaves out what is different each time.
func (s *site) described(namespace, name string) string {
	s.t.Helper()
	text := s.kubectl("-n", namespace, "describe", "osn", name)
	return regexp.MustCompile(`(?m)^(  (Creation Timestamp|Resource Version|UID): +).*$`).ReplaceAllString(text, "${1}-")
}
