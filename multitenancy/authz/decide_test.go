// SPDX-License-Identifier: Apache-2.0

package authz_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/multitenancy/authz"
	"github.com/cloudveneto/caas/multitenancy/tenant"
)

// ask is a request of Alice in her namespace, by default about pods.
func ask(verb string, edits ...func(*authz.Request)) authz.Request {
	request := authz.Request{User: userOf(alice, project, "member"), Verb: verb, Resource: resource("", "pods"), Namespace: space}
	for _, edit := range edits {
		edit(&request)
	}
	return request
}

func named(name string) func(*authz.Request) { return func(r *authz.Request) { r.Name = name } }
func sub(name string) func(*authz.Request)   { return func(r *authz.Request) { r.Subresource = name } }

func within(name string) func(*authz.Request)  { return func(r *authz.Request) { r.Namespace = name } }
func by(user tenant.User) func(*authz.Request) { return func(r *authz.Request) { r.User = user } }
func of(group, name string) func(*authz.Request) {
	return func(r *authz.Request) { r.Resource = resource(group, name) }
}

func selecting(requirements ...metav1.LabelSelectorRequirement) func(*authz.Request) {
	return func(r *authz.Request) { r.Selector = requirements }
}

func TestDecideRows(t *testing.T) {
	t.Parallel()
	robot := accountOf(space, "robot", "uid-robot")
	mine, bobs := in(tenant.LabelUserID, alice), in(tenant.LabelUserID, bob)
	for name, test := range map[string]struct {
		request authz.Request
		reason  authz.Reason
		passes  bool
	}{
		"non-resource URL":               {authz.Request{User: userOf(alice, project), NonResource: true}, authz.ReasonNonResource, true},
		"non-resource URL of a stranger": {authz.Request{User: tenant.User{Name: "x"}, NonResource: true}, authz.ReasonNonResource, true},

		"scheduler":                          {ask("list", by(tenant.User{Name: "system:kube-scheduler"})), authz.ReasonSystem, true},
		"node":                               {ask("list", by(tenant.User{Name: "system:node:n1", Groups: []string{"system:nodes"}})), authz.ReasonSystem, true},
		"controller":                         {ask("list", by(accountOf("kube-system", "job-controller", "u"))), authz.ReasonSystem, true},
		"trusted operator":                   {ask("list", by(accountOf("caas-system", "osnode-controller", "u"))), authz.ReasonSystem, true},
		"operator on the list":               {ask("list", by(accountOf("caas-system", "collector", "u"))), authz.ReasonSystem, true},
		"operators of a namespace":           {ask("list", by(accountOf("monitoring", "any", "u"))), authz.ReasonSystem, true},
		"namespace named like it":            {ask("list", by(accountOf("monitoring2", "any", "u"))), authz.ReasonUnavailable, false},
		"operator not on the list":           {ask("list", by(accountOf("default", "operator", "u"))), authz.ReasonProject, false},
		"administrators' group":              {ask("list", by(tenant.User{Name: "kubernetes-admin", Groups: []string{"kubeadm:cluster-admins"}})), authz.ReasonSystem, true},
		"trusted user":                       {ask("list", by(tenant.User{Name: "root@site"})), authz.ReasonSystem, true},
		"trusted user's namesake":            {ask("list", by(namesake("root@site"))), authz.ReasonSelector, false},
		"administrators' namesake":           {ask("list", by(namesake("x", "caas-admins"))), authz.ReasonSelector, false},
		"stranger":                           {ask("list", by(tenant.User{Name: "x"})), authz.ReasonStranger, false},
		"stranger by a project's group only": {ask("list", by(tenant.User{Name: "x", Groups: []string{tenant.GroupProjectPrefix + project}})), authz.ReasonStranger, false},

		"A59 ServiceAccount's own":                {ask("get", named("mine"), by(robot)), authz.ReasonOwner, true},
		"A59 ServiceAccount's list":               {ask("list", selecting(mine), by(robot)), authz.ReasonOwner, true},
		"A59 ServiceAccount elsewhere":            {ask("get", named("mine"), by(robot), within(elsewhere)), authz.ReasonProject, false},
		"A59 same name of another namespace":      {ask("get", named("mine"), by(accountOf(elsewhere, "robot", "uid-other"))), authz.ReasonProject, false},
		"ServiceAccount of an earlier time":       {ask("get", named("mine"), by(accountOf(space, "robot", "uid-earlier"))), authz.ReasonNobody, false},
		"ServiceAccount without UID":              {ask("get", named("mine"), by(accountOf(space, "robot", ""))), authz.ReasonNobody, false},
		"ServiceAccount default":                  {ask("get", named("mine"), by(accountOf(space, "default", "uid-default"))), authz.ReasonNobody, false},
		"ServiceAccount without owner":            {ask("list", selecting(mine), by(accountOf(space, "ownerless", "uid-ownerless"))), authz.ReasonNobody, false},
		"ServiceAccount that claims to be a user": {ask("list", selecting(mine), by(tenant.User{Name: "system:serviceaccount:cms:ownerless", UID: "uid-ownerless", Extra: userOf(alice, project).Extra})), authz.ReasonNobody, false},

		"A62 namespace of another project": {ask("get", named("mine"), within(elsewhere)), authz.ReasonProject, false},
		"A60 namespace of the system":      {ask("list", selecting(mine), within("kube-system")), authz.ReasonProject, false},
		"A60 namespace default":            {ask("list", selecting(mine), within("default")), authz.ReasonProject, false},
		"A62 member of another project":    {ask("list", selecting(mine), by(userOf(alice, other))), authz.ReasonProject, false},

		"A1 get Bob's":                  {ask("get", named("his")), authz.ReasonNotYours, false},
		"A1 get own":                    {ask("get", named("mine")), authz.ReasonOwner, true},
		"get nobody's":                  {ask("get", named("nobodys")), authz.ReasonNotYours, false},
		"get system object":             {ask("get", of("", "configmaps"), named("kube-root-ca.crt")), authz.ReasonAllowed, true},
		"change system object":          {ask("update", of("", "configmaps"), named("kube-root-ca.crt")), authz.ReasonNotYours, false},
		"secret named like it":          {ask("get", of("", "secrets"), named("kube-root-ca.crt")), authz.ReasonNotYours, false},
		"get shared OpenStackNode":      {ask("get", of("osnode.infn.it", "openstacknodes"), named("shared")), authz.ReasonShared, true},
		"get private OpenStackNode":     {ask("get", of("osnode.infn.it", "openstacknodes"), named("his")), authz.ReasonNotYours, false},
		"delete shared OpenStackNode":   {ask("delete", of("osnode.infn.it", "openstacknodes"), named("shared")), authz.ReasonNotYours, false},
		"get Secret labelled shared":    {ask("get", of("", "secrets"), named("shared")), authz.ReasonNotYours, false},
		"A3 list without selector":      {ask("list"), authz.ReasonSelector, false},
		"list own":                      {ask("list", selecting(mine)), authz.ReasonOwner, true},
		"watch own":                     {ask("watch", selecting(mine)), authz.ReasonOwner, true},
		"A4 list Bob's":                 {ask("list", selecting(bobs)), authz.ReasonSelector, false},
		"A5 list both":                  {ask("list", selecting(in(tenant.LabelUserID, alice, bob))), authz.ReasonSelector, false},
		"A6 not somebody":               {ask("list", selecting(metav1.LabelSelectorRequirement{Key: tenant.LabelUserID, Operator: metav1.LabelSelectorOpNotIn, Values: []string{bob}})), authz.ReasonSelector, false},
		"A6 not myself":                 {ask("list", selecting(metav1.LabelSelectorRequirement{Key: tenant.LabelUserID, Operator: metav1.LabelSelectorOpNotIn, Values: []string{alice}})), authz.ReasonSelector, false},
		"A6 has an owner":               {ask("list", selecting(metav1.LabelSelectorRequirement{Key: tenant.LabelUserID, Operator: metav1.LabelSelectorOpExists})), authz.ReasonSelector, false},
		"A6 has no owner":               {ask("list", selecting(metav1.LabelSelectorRequirement{Key: tenant.LabelUserID, Operator: metav1.LabelSelectorOpDoesNotExist})), authz.ReasonSelector, false},
		"A6 operator unknown":           {ask("list", selecting(metav1.LabelSelectorRequirement{Key: tenant.LabelUserID, Operator: "in", Values: []string{alice}})), authz.ReasonSelector, false},
		"no values":                     {ask("list", selecting(in(tenant.LabelUserID))), authz.ReasonSelector, false},
		"empty value":                   {ask("list", selecting(in(tenant.LabelUserID, ""))), authz.ReasonSelector, false},
		"another label":                 {ask("list", selecting(in("app", alice))), authz.ReasonSelector, false},
		"own and more":                  {ask("list", selecting(in("app", "web"), mine)), authz.ReasonOwner, true},
		"own and Bob's is nothing":      {ask("list", selecting(bobs, mine)), authz.ReasonOwner, true},
		"visible to me":                 {ask("list", selecting(in(tenant.LabelVisibleTo, alice))), authz.ReasonOwner, true},
		"visible to Bob":                {ask("list", selecting(in(tenant.LabelVisibleTo, alice, bob))), authz.ReasonSelector, false},
		"shared or mine":                {ask("list", of("osnode.infn.it", "openstacknodes"), selecting(in(tenant.LabelVisibleTo, alice, "project"))), authz.ReasonOwner, true},
		"shared only":                   {ask("watch", of("osnode.infn.it", "openstacknodes"), selecting(in(tenant.LabelVisibleTo, "project"))), authz.ReasonOwner, true},
		"shared Secrets":                {ask("list", of("", "secrets"), selecting(in(tenant.LabelVisibleTo, alice, "project"))), authz.ReasonSelector, false},
		"user id project":               {ask("list", selecting(in(tenant.LabelUserID, "project"))), authz.ReasonSelector, false},
		"A10 by name of Bob's":          {ask("list", named("his")), authz.ReasonSelector, false},
		"A10 by name of own":            {ask("list", named("mine")), authz.ReasonSelector, false},
		"A11 by name with own label":    {ask("list", named("his"), selecting(mine)), authz.ReasonOwner, true},
		"A13 watch by name":             {ask("watch", named("his")), authz.ReasonSelector, false},
		"A14 all namespaces":            {ask("list", within(""), selecting(mine)), authz.ReasonCluster, false},
		"A15 delete all":                {ask("deletecollection"), authz.ReasonSelector, false},
		"A15 delete mine or shared":     {ask("deletecollection", of("osnode.infn.it", "openstacknodes"), selecting(in(tenant.LabelVisibleTo, alice, "project"))), authz.ReasonSelector, false},
		"A15 delete what I see":         {ask("deletecollection", selecting(in(tenant.LabelVisibleTo, alice))), authz.ReasonSelector, false},
		"A16 delete mine":               {ask("deletecollection", selecting(mine)), authz.ReasonOwner, true},
		"A16 delete mine and Bob's":     {ask("deletecollection", selecting(in(tenant.LabelUserID, alice, bob))), authz.ReasonSelector, false},
		"A17 update Bob's":              {ask("update", named("his")), authz.ReasonNotYours, false},
		"A17 patch Bob's":               {ask("patch", named("his")), authz.ReasonNotYours, false},
		"A17 delete Bob's":              {ask("delete", named("his")), authz.ReasonNotYours, false},
		"create":                        {ask("create"), authz.ReasonAdmission, true},
		"create by apply, Bob's name":   {ask("create", named("his")), authz.ReasonAdmission, true},
		"A23 list of a subresource":     {ask("list", sub("his")), authz.ReasonMalformed, false},
		"A23 unknown subresource":       {ask("get", named("mine"), sub("evil")), authz.ReasonSubresource, false},
		"A23 odd name":                  {ask("get", named("..")), authz.ReasonMalformed, false},
		"A23 name with slash":           {ask("get", named("a/b")), authz.ReasonMalformed, false},
		"no name":                       {ask("get"), authz.ReasonMalformed, false},
		"A24 log":                       {ask("get", named("his"), sub("log")), authz.ReasonNotYours, false},
		"A24 exec by POST":              {ask("create", named("his"), sub("exec")), authz.ReasonNotYours, false},
		"A24 exec by WebSocket":         {ask("get", named("his"), sub("exec")), authz.ReasonNotYours, false},
		"A24 own exec by WebSocket":     {ask("get", named("mine"), sub("exec")), authz.ReasonOwner, true},
		"A24 exec in a shared pod":      {ask("create", named("shared"), sub("exec")), authz.ReasonNotYours, false},
		"A24 log of a ConfigMap":        {ask("get", of("", "configmaps"), named("mine"), sub("log")), authz.ReasonSubresource, false},
		"A25 pod proxy":                 {ask("get", named("http:his:80"), sub("proxy")), authz.ReasonNotYours, false},
		"A25 pod proxy, own":            {ask("get", named("http:mine:80"), sub("proxy")), authz.ReasonOwner, true},
		"A25 pod proxy, port":           {ask("create", named("mine:80"), sub("proxy")), authz.ReasonOwner, true},
		"A25 Bob's name as port":        {ask("get", named("mine:his"), sub("proxy")), authz.ReasonOwner, true},
		"A25 own name as scheme":        {ask("get", named("mine:his:80"), sub("proxy")), authz.ReasonMalformed, false},
		"A25 own name as port":          {ask("get", named("his:mine"), sub("proxy")), authz.ReasonNotYours, false},
		"A25 service proxy":             {ask("get", of("", "services"), named("https:his:443"), sub("proxy")), authz.ReasonNotYours, false},
		"A25 shared service proxy":      {ask("get", of("", "services"), named("https:shared:443"), sub("proxy")), authz.ReasonNotYours, false},
		"A25 name with port elsewhere":  {ask("get", named("mine:80")), authz.ReasonUnavailable, false},
		"A26 evict Bob's":               {ask("create", named("his"), sub("eviction")), authz.ReasonNotYours, false},
		"A26 evict own":                 {ask("create", named("mine"), sub("eviction")), authz.ReasonOwner, true},
		"A27 bindings":                  {ask("create", of("", "bindings")), authz.ReasonResource, false},
		"A27 pods/binding":              {ask("create", named("mine"), sub("binding")), authz.ReasonSubresource, false},
		"A29 impersonate a user":        {ask("impersonate", of("", "users"), named("bob"), within("")), authz.ReasonVerb, false},
		"A29 impersonate an account":    {ask("impersonate", of("", "serviceaccounts"), named("mine")), authz.ReasonVerb, false},
		"A29 constrained":               {ask("impersonate-on:user-info:list"), authz.ReasonVerb, false},
		"A30 token of default":          {ask("create", of("", "serviceaccounts"), named("default"), sub("token")), authz.ReasonSubresource, false},
		"A30 token of Bob's":            {ask("create", of("", "serviceaccounts"), named("his"), sub("token")), authz.ReasonNotYours, false},
		"A30 token of own":              {ask("create", of("", "serviceaccounts"), named("mine"), sub("token")), authz.ReasonOwner, true},
		"A30 token of a pod":            {ask("create", named("mine"), sub("token")), authz.ReasonSubresource, false},
		"A43 create EndpointSlice":      {ask("create", of("discovery.k8s.io", "endpointslices")), authz.ReasonResource, false},
		"A43 update Endpoints":          {ask("update", of("", "endpoints"), named("mine")), authz.ReasonResource, false},
		"A47 create Role":               {ask("create", of("rbac.authorization.k8s.io", "roles")), authz.ReasonResource, false},
		"A47 create RoleBinding":        {ask("create", of("rbac.authorization.k8s.io", "rolebindings")), authz.ReasonResource, false},
		"A47 escalate":                  {ask("escalate", of("rbac.authorization.k8s.io", "roles"), named("x")), authz.ReasonVerb, false},
		"A47 bind":                      {ask("bind", of("rbac.authorization.k8s.io", "clusterroles"), named("x"), within("")), authz.ReasonVerb, false},
		"A48 webhook":                   {ask("create", of("admissionregistration.k8s.io", "mutatingwebhookconfigurations"), within("")), authz.ReasonCluster, false},
		"A48 policy":                    {ask("create", of("admissionregistration.k8s.io", "validatingadmissionpolicies"), within("")), authz.ReasonCluster, false},
		"A48 CRD":                       {ask("create", of("apiextensions.k8s.io", "customresourcedefinitions"), within("")), authz.ReasonCluster, false},
		"A48 CSR":                       {ask("create", of("certificates.k8s.io", "certificatesigningrequests"), within("")), authz.ReasonCluster, false},
		"A48 PriorityClass":             {ask("create", of("scheduling.k8s.io", "priorityclasses"), within("")), authz.ReasonCluster, false},
		"A55 status of Bob's":           {ask("patch", named("his"), sub("status")), authz.ReasonNotYours, false},
		"A55 scale of Bob's":            {ask("update", of("apps", "deployments"), named("his"), sub("scale")), authz.ReasonNotYours, false},
		"A55 resize of Bob's":           {ask("patch", named("his"), sub("resize")), authz.ReasonNotYours, false},
		"A55 own scale":                 {ask("patch", of("apps", "deployments"), named("mine"), sub("scale")), authz.ReasonOwner, true},
		"A55 finalize of the namespace": {ask("update", of("", "namespaces"), named(space), sub("finalize")), authz.ReasonCluster, false},
		"A57 events of both groups":     {ask("get", of("events.k8s.io", "events"), named("his")), authz.ReasonNotYours, false},
		"A57 own event":                 {ask("get", of("events.k8s.io", "events"), named("mine")), authz.ReasonOwner, true},
		"A58 resource nobody enabled":   {ask("list", of("evil.example.org", "pods"), selecting(mine)), authz.ReasonResource, false},
		"A58 everything":                {ask("list", of("*", "*"), selecting(mine)), authz.ReasonResource, false},
		"all verbs":                     {ask("*", selecting(mine)), authz.ReasonVerb, false},

		"own namespace":              {ask("get", of("", "namespaces"), named(space)), authz.ReasonAllowed, true},
		"other namespace":            {ask("get", of("", "namespaces"), within(elsewhere), named(elsewhere)), authz.ReasonProject, false},
		"other namespace by a trick": {ask("get", of("", "namespaces"), named(elsewhere)), authz.ReasonCluster, false},
		"list namespaces":            {ask("list", of("", "namespaces"), within(""), selecting(mine)), authz.ReasonCluster, false},
		"change own namespace":       {ask("patch", of("", "namespaces"), named(space)), authz.ReasonCluster, false},
		"who am I":                   {ask("create", of("authentication.k8s.io", "selfsubjectreviews"), within("")), authz.ReasonAllowed, true},
		"can I":                      {ask("create", of("authorization.k8s.io", "selfsubjectaccessreviews"), within("")), authz.ReasonAllowed, true},
		"can he":                     {ask("create", of("authorization.k8s.io", "subjectaccessreviews"), within("")), authz.ReasonCluster, false},
		"can he, here":               {ask("create", of("authorization.k8s.io", "localsubjectaccessreviews")), authz.ReasonResource, false},
		"storage classes":            {ask("list", of("storage.k8s.io", "storageclasses"), within("")), authz.ReasonAllowed, true},
		"own node":                   {ask("get", of("", "nodes"), within(""), named("private")), authz.ReasonOwner, true},
		"shared node":                {ask("get", of("", "nodes"), within(""), named("shared")), authz.ReasonOwner, true},
		"Bob's node":                 {ask("get", of("", "nodes"), within(""), named("bobs")), authz.ReasonNotYours, false},
		"node of the site":           {ask("get", of("", "nodes"), within(""), named("metal")), authz.ReasonNotYours, false},
		"all nodes":                  {ask("list", of("", "nodes"), within("")), authz.ReasonSelector, false},
		"own nodes":                  {ask("list", of("", "nodes"), within(""), selecting(in(tenant.NodePoolLabel, tenant.PrivatePool(alice), tenant.SharedPool(project)))), authz.ReasonOwner, true},
		"nodes of another project":   {ask("list", of("", "nodes"), within(""), selecting(in(tenant.NodePoolLabel, tenant.SharedPool(other)))), authz.ReasonSelector, false},
		"a robot's nodes":            {ask("list", of("", "nodes"), within(""), by(robot), selecting(in(tenant.NodePoolLabel, tenant.PrivatePool(alice), tenant.SharedPool(project)))), authz.ReasonOwner, true},
		"node proxy":                 {ask("get", of("", "nodes"), within(""), named("private"), sub("proxy")), authz.ReasonCluster, false},
		"patch own node":             {ask("patch", of("", "nodes"), within(""), named("private")), authz.ReasonCluster, false},
		"own volume":                 {ask("get", of("", "persistentvolumes"), within(""), named("mine")), authz.ReasonCluster, false},
		"Bob's volume":               {ask("get", of("", "persistentvolumes"), within(""), named("his")), authz.ReasonCluster, false},
		"own volumes":                {ask("list", of("", "persistentvolumes"), within(""), selecting(mine)), authz.ReasonOwner, true},
		"all volumes":                {ask("list", of("", "persistentvolumes"), within("")), authz.ReasonSelector, false},
		"delete own volume":          {ask("delete", of("", "persistentvolumes"), within(""), named("mine")), authz.ReasonCluster, false},
		"quota":                      {ask("list", of("", "resourcequotas")), authz.ReasonAllowed, true},
		"change quota":               {ask("create", of("", "resourcequotas")), authz.ReasonResource, false},
		"see Roles":                  {ask("get", of("rbac.authorization.k8s.io", "roles"), named("x")), authz.ReasonAllowed, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rules := newRules(t, authz.Options{Trusted: authz.Trusted{
				Users: []string{"root@site"}, ServiceAccounts: []string{"monitoring/*", "caas-system/collector"},
			}})
			verdict := rules.Decide(test.request, someWorld())
			assert.Equal(t, test.reason, verdict.Reason, verdict.Text)
			assert.Equal(t, test.passes, verdict.Outcome == authz.NoOpinion, verdict.Text)
			if verdict.Outcome == authz.Deny {
				assert.True(t, strings.HasPrefix(verdict.Text, "mt: "), verdict.Text)
				assert.NotContains(t, verdict.Text, bob)
			}
		})
	}
}

func TestDecideByKnowledge(t *testing.T) {
	t.Parallel()
	type expectation struct {
		outcome authz.Outcome
		reason  authz.Reason
	}
	denied := func(reason authz.Reason) expectation { return expectation{authz.Deny, reason} }
	for _, verb := range []string{"get", "update", "patch", "delete"} {
		expected := map[authz.Knowledge]expectation{
			authz.Unknown: {authz.Ask, authz.ReasonUnavailable}, authz.Absent: denied(authz.ReasonNotYours),
			authz.Limited: denied(authz.ReasonLimited), authz.Unavailable: denied(authz.ReasonUnavailable),
		}
		if verb == "patch" { // server-side apply creates
			expected[authz.Absent] = expectation{authz.NoOpinion, authz.ReasonAdmission}
		}
		for knowledge, want := range expected {
			facts := someWorld().with(key(resource("", "pods"), space, "new"), knowledge)
			verdict := newRules(t, authz.Options{}).Decide(ask(verb, named("new")), facts)
			assert.Equal(t, want, expectation{verdict.Outcome, verdict.Reason}, "%s, knowledge %d", verb, knowledge)
			if want.outcome == authz.Ask {
				assert.Equal(t, key(resource("", "pods"), space, "new"), verdict.Key)
				assert.Equal(t, alice, verdict.User)
			}
		}
	}
	t.Run("patch of a subresource creates nothing", func(t *testing.T) {
		facts := someWorld().with(key(resource("", "pods"), space, "new"), authz.Absent)
		assert.Equal(t, authz.Deny, newRules(t, authz.Options{}).Decide(ask("patch", named("new"), sub("status")), facts).Outcome)
	})
	t.Run("not ready", func(t *testing.T) {
		facts := someWorld()
		facts.unready = true
		for _, request := range []authz.Request{ask("list", selecting(in(tenant.LabelUserID, alice))), ask("create"), ask("get", named("mine"))} {
			verdict := newRules(t, authz.Options{}).Decide(request, facts)
			assert.Equal(t, denied(authz.ReasonNotReady), expectation{verdict.Outcome, verdict.Reason})
		}
	})
	for name, at := range map[string]authz.Key{
		"namespace":      key(resource("", "namespaces"), "", space),
		"ServiceAccount": key(resource("", "serviceaccounts"), space, "robot"),
	} {
		t.Run(name+" cannot be told", func(t *testing.T) {
			request := ask("get", named("mine"), by(accountOf(space, "robot", "uid-robot")))
			rules := newRules(t, authz.Options{})
			verdict := rules.Decide(request, someWorld().with(at, authz.Unknown))
			assert.Equal(t, authz.Ask, verdict.Outcome)
			assert.Equal(t, at, verdict.Key)
			for _, knowledge := range []authz.Knowledge{authz.Absent, authz.Limited, authz.Unavailable} {
				assert.Equal(t, authz.Deny, rules.Decide(request, someWorld().with(at, knowledge)).Outcome)
			}
		})
	}
}

func TestDecideOptions(t *testing.T) {
	t.Parallel()
	manager := by(userOf(alice, project, "member", "manager"))
	for name, test := range map[string]struct {
		options authz.Options
		request authz.Request
		want    authz.Reason
	}{
		"list all in the project":    {authz.Options{ListMode: authz.ListProject}, ask("list"), authz.ReasonShared},
		"list all Secrets":           {authz.Options{ListMode: authz.ListProject}, ask("list", of("", "secrets")), authz.ReasonSelector},
		"delete all in the project":  {authz.Options{ListMode: authz.ListProject}, ask("deletecollection"), authz.ReasonSelector},
		"list another project":       {authz.Options{ListMode: authz.ListProject}, ask("list", within(elsewhere)), authz.ReasonProject},
		"get in the project":         {authz.Options{ListMode: authz.ListProject}, ask("get", named("his")), authz.ReasonNotYours},
		"manager by default":         {authz.Options{}, ask("get", named("his"), manager), authz.ReasonNotYours},
		"manager sees":               {authz.Options{Managers: authz.ManagersView}, ask("get", named("his"), manager), authz.ReasonManager},
		"manager lists":              {authz.Options{Managers: authz.ManagersView}, ask("list", manager), authz.ReasonManager},
		"manager sees no Secret":     {authz.Options{Managers: authz.ManagersView}, ask("get", of("", "secrets"), named("his"), manager), authz.ReasonNotYours},
		"manager lists no Secrets":   {authz.Options{Managers: authz.ManagersView}, ask("list", of("", "secrets"), manager), authz.ReasonSelector},
		"manager gets into no pod":   {authz.Options{Managers: authz.ManagersView}, ask("create", named("his"), sub("exec"), manager), authz.ReasonNotYours},
		"manager reads no log":       {authz.Options{Managers: authz.ManagersView}, ask("get", named("his"), sub("log"), manager), authz.ReasonNotYours},
		"manager deletes no pod":     {authz.Options{Managers: authz.ManagersView}, ask("delete", named("his"), manager), authz.ReasonNotYours},
		"manager deletes nothing":    {authz.Options{Managers: authz.ManagersView}, ask("delete", of("", "configmaps"), named("his"), manager), authz.ReasonNotYours},
		"manager evicts nothing":     {authz.Options{Managers: authz.ManagersView}, ask("create", named("his"), sub("eviction"), manager), authz.ReasonNotYours},
		"manager deletes not all":    {authz.Options{Managers: authz.ManagersView}, ask("deletecollection", manager), authz.ReasonSelector},
		"manager changes nothing":    {authz.Options{Managers: authz.ManagersView}, ask("patch", named("his"), manager), authz.ReasonNotYours},
		"manager and the system's":   {authz.Options{Managers: authz.ManagersView}, ask("delete", named("nobodys"), manager), authz.ReasonNotYours},
		"manager of another project": {authz.Options{Managers: authz.ManagersView}, ask("get", within(elsewhere), named("his"), manager), authz.ReasonProject},
		"member":                     {authz.Options{Managers: authz.ManagersView}, ask("get", named("his")), authz.ReasonNotYours},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			assert.Equal(t, test.want, newRules(t, test.options).Decide(test.request, someWorld()).Reason)
		})
	}
}

func TestOptionsValidate(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		options authz.Options
		want    []string
	}{
		"removing": {authz.Options{Managers: "remove"}, []string{`managers: "remove"`}},
		"modes":    {authz.Options{ListMode: "all", Managers: "root"}, []string{`listMode: "all"`, `managers: "root"`}},
		"trusted": {authz.Options{Trusted: authz.Trusted{
			Users: []string{"system:serviceaccount:a:b", ""}, ServiceAccounts: []string{"cms", "*/x", "a/b/c"},
		}}, []string{"a:b", `users: ""`, `"cms"`, `"*/x"`, `"a/b/c"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := authz.NewRules(tenant.DefaultPolicy(), test.options)
			require.Error(t, err)
			for _, want := range test.want {
				assert.ErrorContains(t, err, want)
			}
		})
	}
}
