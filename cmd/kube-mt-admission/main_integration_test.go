// SPDX-License-Identifier: Apache-2.0

//go:build integration

package main_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
)

func TestIntegration(t *testing.T) {
	s := newSite(t)
	t.Run("ordinary life", s.ordinaryLife)
	t.Run("gated pods", s.gatedPods)
	t.Run("attacks", s.attacks)
	t.Run("names", s.names)
	t.Run("policies", s.policies)
}

const life = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: robot}
---
apiVersion: v1
kind: Secret
metadata: {name: key}
stringData: {a: b}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, annotations: {osn.infn.it/policy: shared}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: robot
      containers:
      - name: main
        image: nginx
        envFrom: [{secretRef: {name: key}}]
      volumes:
      - {name: settings, configMap: {name: settings}}
      - {name: data, persistentVolumeClaim: {claimName: data}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - host: web.example.org
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: web}
spec:
  maxReplicas: 3
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec: {podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 1
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: main, image: postgres, volumeMounts: [{name: files, mountPath: /data}]}]}
  volumeClaimTemplates:
  - metadata: {name: files}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once}
spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: busybox}]}}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: often}
spec:
  schedule: "* * * * *"
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: main, image: busybox}]}}}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: main, image: busybox}]}
`

func (s *site) ordinaryLife(t *testing.T) {
	require.NoError(t, s.create(s.config(alice), life))
	require.NoError(t, s.create(s.config(bob), `
apiVersion: v1
kind: Secret
metadata: {name: bobs}
`))
	ctx := t.Context()
	mine := metav1.ListOptions{LabelSelector: "osn.infn.it/userid=" + alice}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		pods, err := s.admin.CoreV1().Pods(namespace).List(ctx, mine)
		require.NoError(c, err)
		found := map[string]int{}
		for i := range pods.Items {
			pod := &pods.Items[i]
			found[pod.Labels["app"]+pod.Labels["batch.kubernetes.io/job-name"]]++
			assert.Equal(c, "alice-at-infn.it", pod.Labels["osn.infn.it/username"], pod.Name)
			assert.Equal(c, "CMS", pod.Labels["osn.infn.it/projectname"], pod.Name)
			assert.Equal(c, alice, pod.Labels["osn.infn.it/visible-to"], pod.Name)
			assertPlaced(c, pod)
		}
		assert.Equal(c, map[string]int{"web": 2, "db": 1, "once": 1, "agent": 1}, found)
	}, soon, tick)

	web, err := s.admin.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
	require.NoError(t, err)
	assert.Equal(t, []string{"u-" + alice, "p-" + project}, poolsOf(&web.Items[0]), "the annotation of the Deployment counts")
	assert.NotNil(t, web.Items[0].Spec.Volumes, "the ServiceAccount's token is mounted")
	db, err := s.admin.CoreV1().Pods(namespace).Get(ctx, "db-0", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Len(t, db.Spec.Volumes, 1, "the default ServiceAccount's token is not mounted")
	claim, err := s.admin.CoreV1().PersistentVolumeClaims(namespace).Get(ctx, "files-db-0", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, alice, claim.Labels["osn.infn.it/userid"])

	// Their controller is none of those that the pods have waited for.
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		slices, err := s.admin.DiscoveryV1().EndpointSlices(namespace).List(ctx, mine)
		require.NoError(c, err)
		assert.NotEmpty(c, slices.Items)
	}, soon, tick)
	assert.True(t, s.warnings.has("no node of yours is ready"))
	assert.True(t, s.warnings.has("whose owners can access them"))

	s.everydayChanges(t)
	s.usersAct(t)
}

func assertPlaced(c *assert.CollectT, pod *corev1.Pod) {
	terms := pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	require.NotEmpty(c, terms)
	assert.NotEmpty(c, poolsOf(pod), pod.Name)
}

func poolsOf(pod *corev1.Pod) []string {
	for _, term := range pod.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, expression := range term.MatchExpressions {
			if expression.Key == "osn.infn.it.node-restriction.kubernetes.io/pool" {
				return expression.Values
			}
		}
	}
	return nil
}

// everydayChanges are updates by the owner and by controllers.
func (s *site) everydayChanges(t *testing.T) {
	ctx := t.Context()
	client := s.as(alice)
	_, err := client.AppsV1().Deployments(namespace).Patch(ctx, "web", types.MergePatchType,
		[]byte(`{"spec":{"replicas":1,"template":{"metadata":{"annotations":{"a":"b"}}}}}`), metav1.PatchOptions{})
	require.NoError(t, err)
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		web, err := client.AppsV1().Deployments(namespace).Get(ctx, "web", metav1.GetOptions{})
		require.NoError(c, err)
		assert.Equal(c, web.Generation, web.Status.ObservedGeneration)
		sets, err := client.AppsV1().ReplicaSets(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=web,osn.infn.it/userid=" + alice})
		require.NoError(c, err)
		assert.Len(c, sets.Items, 2)
	}, soon, tick)
	require.NoError(t, retry.RetryOnConflict(retry.DefaultRetry, func() error { // its controller writes it, too
		scale, err := client.AppsV1().Deployments(namespace).GetScale(ctx, "web", metav1.GetOptions{})
		require.NoError(t, err)
		scale.Spec.Replicas = 2
		_, err = client.AppsV1().Deployments(namespace).UpdateScale(ctx, "web", scale, metav1.UpdateOptions{})
		return err
	}))
	require.NoError(t, client.BatchV1().Jobs(namespace).Delete(ctx, "once", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationForeground)}))
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		_, err := client.BatchV1().Jobs(namespace).Get(ctx, "once", metav1.GetOptions{})
		assert.True(c, apierrors.IsNotFound(err), "%v", err)
	}, soon, tick)
}

// usersAct is the ServiceAccount of a user, who works for its owner.
func (s *site) usersAct(t *testing.T) {
	ctx := t.Context()
	account, err := s.admin.CoreV1().ServiceAccounts(namespace).Get(ctx, "robot", metav1.GetOptions{})
	require.NoError(t, err)
	config := s.RESTConfig()
	config.Impersonate.UserName = "system:serviceaccount:cms:robot"
	config.Impersonate.UID = string(account.UID)
	config.Impersonate.Groups = []string{"system:serviceaccounts", "osn:project:" + project}
	require.NoError(t, s.create(config, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: by-robot}\n"))
	made, err := s.admin.CoreV1().ConfigMaps(namespace).Get(ctx, "by-robot", metav1.GetOptions{})
	require.NoError(t, err)
	assert.Equal(t, alice, made.Labels["osn.infn.it/userid"])
	assert.Equal(t, "alice-at-infn.it", made.Labels["osn.infn.it/username"])

	config.Impersonate.UID = "of-an-earlier-one"
	err = s.create(config, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: by-ghost}\n")
	assert.ErrorContains(t, err, "the ServiceAccount robot has no owner")
}

const gated = `
apiVersion: v1
kind: Pod
metadata: {name: gated}
spec:
  schedulingGates: [{name: offload.infn.it/objects}]
  containers: [{name: main, image: busybox, envFrom: [{configMapRef: {name: gated-map}}]}]
`

func (s *site) gatedPods(t *testing.T) {
	ctx := t.Context()
	require.NoError(t, s.create(s.config(alice), gated))
	open := []byte(`{"spec":{"schedulingGates":null}}`)
	client := s.as(alice)
	_, err := client.CoreV1().Pods(namespace).Patch(ctx, "gated", types.MergePatchType, open, metav1.PatchOptions{})
	require.ErrorContains(t, err, `configmaps "gated-map": not found or not yours`)

	require.EventuallyWithT(t, func(c *assert.CollectT) {
		err = s.create(s.config(bob), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gated-map}\n")
		assert.ErrorContains(c, err, "is referred to by an object of somebody else")
	}, soon, tick)
	pod, err := client.CoreV1().Pods(namespace).Get(ctx, "gated", metav1.GetOptions{})
	require.NoError(t, err)
	_, err = client.CoreV1().ConfigMaps(namespace).Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{
		Name: "gated-map", OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}},
	}}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = client.CoreV1().Pods(namespace).Patch(ctx, "gated", types.MergePatchType, open, metav1.PatchOptions{})
	require.NoError(t, err)
}

func (s *site) names(t *testing.T) {
	ctx := t.Context()
	maps := func(user string) error {
		return s.create(s.config(user), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: reused}\n")
	}
	require.NoError(t, maps(alice))
	require.NoError(t, s.as(alice).CoreV1().ConfigMaps(namespace).Delete(ctx, "reused", metav1.DeleteOptions{}))
	err := maps(bob)
	require.True(t, apierrors.IsConflict(err), "%v", err)
	require.ErrorContains(t, err, "was used by somebody else a short time ago")
	require.EventuallyWithT(t, func(c *assert.CollectT) { assert.NoError(c, maps(bob)) }, soon, time.Second)
}

// policies are the files for when the webhook is down.
func (s *site) policies(t *testing.T) {
	s.applyFile("../../deploy/kube-mt-admission/policies.yaml")
	hooks := s.admin.AdmissionregistrationV1()
	require.NoError(t, hooks.ValidatingWebhookConfigurations().Delete(t.Context(), "kube-mt-admission", metav1.DeleteOptions{}))
	for name, test := range map[string]struct{ yaml, want string }{
		"A49 pod":     {attackPod("nodeName: bob-1"), "spec.nodeName is not allowed; use nodeSelector kubernetes.io/hostname"},
		"A50 all":     {attackPod("tolerations: [{operator: Exists}]"), "tolerating every taint is not allowed"},
		"A50 control": {attackPod("tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]"), "platform's taints"},
		"A49 cronjob": {`
apiVersion: batch/v1
kind: CronJob
metadata: {name: bad}
spec: {schedule: "* * * * *", jobTemplate: {spec: {template: {spec: {nodeName: x, restartPolicy: Never, containers: [{name: a, image: b}]}}}}}
`, "spec.jobTemplate.spec.template.spec.nodeName is not allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			require.EventuallyWithT(t, func(c *assert.CollectT) {
				err := s.create(s.config(alice), test.yaml)
				assert.ErrorContains(c, err, test.want)
			}, soon, 200*time.Millisecond)
		})
	}
	t.Run("A28 by a user", func(t *testing.T) {
		// The API server takes up one policy after the other. A dry run binds nothing before it has this one.
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			err := s.as(alice).CoreV1().Pods(namespace).Bind(t.Context(), &corev1.Binding{
				ObjectMeta: metav1.ObjectMeta{Name: "gated"}, Target: corev1.ObjectReference{Kind: "Node", Name: "bob-1"},
			}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			assert.ErrorContains(c, err, "only the scheduler binds pods to nodes")
		}, soon, 200*time.Millisecond)
	})
	t.Run("A48 cluster-scoped", func(t *testing.T) {
		config := s.config(alice)
		config.Impersonate.Groups = append(config.Impersonate.Groups, "too-much")
		_, err := s.admin.RbacV1().ClusterRoleBindings().Create(t.Context(), tooMuch(), metav1.CreateOptions{})
		require.NoError(t, err)
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			err := s.create(config, "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: mine}\nvalue: 1\n")
			assert.ErrorContains(c, err, "users cannot change objects outside of namespaces")
		}, soon, tick)
	})
	t.Run("owners", func(t *testing.T) {
		require.NoError(t, s.admin.AdmissionregistrationV1().MutatingWebhookConfigurations().Delete(t.Context(), "kube-mt-admission", metav1.DeleteOptions{}))
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			_, err := s.as(alice).CoreV1().ConfigMaps(namespace).Patch(t.Context(), "settings", types.MergePatchType,
				[]byte(`{"metadata":{"labels":{"osn.infn.it/userid":"`+bob+`"}}}`), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
			assert.ErrorContains(c, err, "labels that say whose an object is cannot be changed")
		}, soon, 200*time.Millisecond)
	})
}
