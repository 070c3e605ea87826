// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// word is the text of every string that has no better one. It is a name, a label's key and a value.
const word = "some-value"

// fill gives a value, and everything within it, something that is not zero.
func fill(t *testing.T, value reflect.Value) {
	t.Helper()
	if known, found := typical()[value.Type()]; found {
		value.Set(reflect.ValueOf(known).Convert(value.Type()))
		return
	}
	switch value.Kind() { //nolint:exhaustive // a field of another kind fails the test
	case reflect.Pointer:
		value.Set(reflect.New(value.Type().Elem()))
		fill(t, value.Elem())
	case reflect.Slice:
		value.Set(reflect.MakeSlice(value.Type(), 1, 1))
		fill(t, value.Index(0))
	case reflect.Struct:
		for _, field := range value.Fields() {
			fill(t, field)
		}
	case reflect.Map:
		key, element := reflect.New(value.Type().Key()).Elem(), reflect.New(value.Type().Elem()).Elem()
		fill(t, key)
		fill(t, element)
		value.Set(reflect.MakeMap(value.Type()))
		value.SetMapIndex(key, element)
	case reflect.String:
		value.SetString(word)
	case reflect.Bool:
		value.SetBool(true)
	case reflect.Int32, reflect.Int64:
		value.SetInt(7)
	case reflect.Uint8:
		value.SetUint(7)
	default:
		require.Fail(t, "a field of a kind that no field had", value.Type().String())
	}
}

// typical are values of types in which not every value is one.
func typical() map[reflect.Type]any {
	return map[reflect.Type]any{
		reflect.TypeFor[metav1.Time]():                     metav1.NewTime(time.Unix(1_700_000_000, 0)),
		reflect.TypeFor[metav1.FieldsV1]():                 *metav1.NewFieldsV1("{}"),
		reflect.TypeFor[resource.Quantity]():               resource.MustParse("7"),
		reflect.TypeFor[intstr.IntOrString]():              intstr.FromInt32(8888),
		reflect.TypeFor[corev1.ResourceName]():             corev1.ResourceMemory,
		reflect.TypeFor[corev1.RestartPolicy]():            corev1.RestartPolicyNever,
		reflect.TypeFor[corev1.ContainerRestartPolicy]():   corev1.ContainerRestartPolicyAlways,
		reflect.TypeFor[corev1.DNSPolicy]():                corev1.DNSDefault,
		reflect.TypeFor[corev1.PreemptionPolicy]():         corev1.PreemptNever,
		reflect.TypeFor[corev1.PullPolicy]():               corev1.PullAlways,
		reflect.TypeFor[corev1.TerminationMessagePolicy](): corev1.TerminationMessageFallbackToLogsOnError,
		reflect.TypeFor[corev1.Protocol]():                 corev1.ProtocolUDP,
		reflect.TypeFor[corev1.URIScheme]():                corev1.URISchemeHTTPS,
		reflect.TypeFor[corev1.OSName]():                   corev1.Linux,
		reflect.TypeFor[corev1.TaintEffect]():              corev1.TaintEffectNoExecute,
		reflect.TypeFor[corev1.TolerationOperator]():       corev1.TolerationOpExists,
		reflect.TypeFor[corev1.ProcMountType]():            corev1.UnmaskedProcMount,
		reflect.TypeFor[corev1.SeccompProfileType]():       corev1.SeccompProfileTypeLocalhost,
		reflect.TypeFor[corev1.AppArmorProfileType]():      corev1.AppArmorProfileTypeLocalhost,
		reflect.TypeFor[corev1.MountPropagationMode]():     corev1.MountPropagationHostToContainer,
		reflect.TypeFor[corev1.RecursiveReadOnlyMode]():    corev1.RecursiveReadOnlyEnabled,
		reflect.TypeFor[corev1.PodFSGroupChangePolicy]():   corev1.FSGroupChangeOnRootMismatch,
		reflect.TypeFor[corev1.SupplementalGroupsPolicy](): corev1.SupplementalGroupsPolicyStrict,
		reflect.TypeFor[corev1.PodSELinuxChangePolicy]():   corev1.SELinuxChangePolicyRecursive,
		reflect.TypeFor[corev1.StorageMedium]():            corev1.StorageMediumMemory,
		reflect.TypeFor[corev1.Signal]():                   corev1.SIGUSR1,
		reflect.TypeFor[corev1.PodPhase]():                 corev1.PodRunning,
		reflect.TypeFor[corev1.PodQOSClass]():              corev1.PodQOSGuaranteed,
		reflect.TypeFor[corev1.PodConditionType]():         corev1.DisruptionTarget,
		reflect.TypeFor[corev1.ConditionStatus]():          corev1.ConditionTrue,
		reflect.TypeFor[corev1.HostIP]():                   corev1.HostIP{IP: "192.0.2.1"},
		reflect.TypeFor[corev1.PodIP]():                    corev1.PodIP{IP: "10.0.0.1"},
		reflect.TypeFor[corev1.ContainerState]():           corev1.ContainerState{Terminated: ended()},
	}
}

// ended is how a container ended that was killed for its memory.
func ended() *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{
		ExitCode: 137, Signal: 9, Reason: "OOMKilled", Message: word, ContainerID: "containerd://1",
		StartedAt: metav1.NewTime(time.Unix(1_700_000_000, 0)), FinishedAt: metav1.NewTime(time.Unix(1_700_000_007, 0)),
	}
}

// byName is the field of a struct that has the given name in JSON.
func byName(object reflect.Value, name string) reflect.Value {
	for i := range object.NumField() {
		if field := object.Type().Field(i); jsonName(&field) == name {
			return object.Field(i)
		}
	}
	return reflect.Value{}
}
