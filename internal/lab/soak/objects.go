// SPDX-License-Identifier: Apache-2.0

package soak

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cloudveneto/caas/internal/lab/kwok"
)

const (
	kindConfigMap = "ConfigMap"
	kindSecret    = "Secret"
	// turnData is the entry of both by which changes are seen.
	turnData = "turn"
	// configs is how many there are of each kind.
	configs = 8
	// filling is how large their content is at most: large enough to be cut in two.
	filling = 24 << 10
	// appLabel tells whose a pod is.
	appLabel = "soak.test/app"
)

func configName(i int) string { return fmt.Sprintf("config-%d", i) }

func secretName(i int) string { return fmt.Sprintf("secret-%d", i) }

// images of pods; nobody ever pulls them.
func images() []string {
	return []string{"docker.io/library/busybox:1.36", "docker.io/library/busybox:1.37", "registry.example.org/soak:3"}
}

// content is that of a ConfigMap or Secret.
func content(random *rand.Rand, turn int) map[string]string {
	return map[string]string{
		turnData: fmt.Sprint(turn), "text": strings.Repeat("some content\n", random.IntN(filling/len("some content\n"))),
	}
}

// podTemplate makes up a pod.
func podTemplate(random *rand.Rand, app string) corev1.PodTemplateSpec {
	config, secret := configName(random.IntN(configs)), secretName(random.IntN(configs))
	grace := []int64{0, 1, 5, 30}[random.IntN(4)]
	token := random.IntN(4) == 0
	main := corev1.Container{
		Name: "main", Image: images()[random.IntN(len(images()))], Command: []string{"sleep", "3600"},
	}
	spec := corev1.PodSpec{
		NodeSelector:                  map[string]string{corev1.LabelHostname: nodeName},
		Tolerations:                   []corev1.Toleration{{Key: "virtual-node.interlink/no-schedule", Operator: corev1.TolerationOpExists}},
		AutomountServiceAccountToken:  &token,
		TerminationGracePeriodSeconds: &grace,
	}
	if random.IntN(4) > 0 {
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "config", VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: config}},
		}})
		main.VolumeMounts = append(main.VolumeMounts, corev1.VolumeMount{Name: "config", MountPath: "/config"})
		main.Env = append(main.Env, corev1.EnvVar{Name: "TURN", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: config}, Key: turnData,
		}}})
	}
	if random.IntN(3) > 0 {
		spec.Volumes = append(spec.Volumes, corev1.Volume{Name: "secret", VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: secret},
		}})
		main.VolumeMounts = append(main.VolumeMounts, corev1.VolumeMount{Name: "secret", MountPath: "/secret"})
	}
	spec.Containers = []corev1.Container{main}
	if random.IntN(3) == 0 {
		spec.Containers = append(spec.Containers, corev1.Container{Name: "beside", Image: images()[0]})
	}
	if random.IntN(4) == 0 {
		spec.InitContainers = []corev1.Container{{Name: "before", Image: images()[0]}}
	}
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{appLabel: app}}, Spec: spec}
}

// endsAfter has a pod end well.
func endsAfter(template *corev1.PodTemplateSpec, after time.Duration) {
	template.Annotations = map[string]string{kwok.RunForAnnotation: after.Round(time.Millisecond).String()}
}

// barePod makes up a pod that nobody owns; some end by themselves.
func barePod(random *rand.Rand, name string) *corev1.Pod {
	template := podTemplate(random, name)
	template.Spec.RestartPolicy = []corev1.RestartPolicy{
		corev1.RestartPolicyAlways, corev1.RestartPolicyOnFailure, corev1.RestartPolicyNever,
	}[random.IntN(3)]
	if random.IntN(3) == 0 {
		template.Spec.RestartPolicy = corev1.RestartPolicyNever
		endsAfter(&template, between(random, time.Second, 30*time.Second))
	}
	template.Name = name
	return &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
}

func deployment(random *rand.Rand, name string) *appsv1.Deployment {
	replicas := int32(random.IntN(maxReplicas + 1)) //nolint:gosec // a handful
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{appLabel: name}},
			Template: podTemplate(random, name),
		},
	}
}

func job(random *rand.Rand, name string) *batchv1.Job {
	template := podTemplate(random, name)
	template.Spec.RestartPolicy = corev1.RestartPolicyNever
	endsAfter(&template, between(random, time.Second, 10*time.Second))
	completions, parallelism, failures := int32(1+random.IntN(5)), int32(1+random.IntN(3)), int32(0) //nolint:gosec // a handful
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       batchv1.JobSpec{Completions: &completions, Parallelism: &parallelism, BackoffLimit: &failures, Template: template},
	}
}
