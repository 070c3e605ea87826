// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// SecurityField is a setting of the security contexts of a pod and of its containers.
type SecurityField string

// The settings that rules can be about.
const (
	SecurityRunAsUser    SecurityField = "runAsUser"
	SecurityRunAsGroup   SecurityField = "runAsGroup"
	SecurityRunAsNonRoot SecurityField = "runAsNonRoot"
	// SecurityEscalation counts as true where it is not set, as it does for Kubernetes.
	SecurityEscalation   SecurityField = "allowPrivilegeEscalation"
	SecurityCapabilities SecurityField = "capabilities.add"
	// SecuritySeccomp and SecurityAppArmor have the profile's type as value, or
	// Localhost/ and the name of the profile.
	SecuritySeccomp            SecurityField = "seccompProfile"
	SecurityAppArmor           SecurityField = "appArmorProfile"
	SecurityProcMount          SecurityField = "procMount"
	SecuritySELinux            SecurityField = "seLinuxOptions"
	SecurityFSGroup            SecurityField = "fsGroup"
	SecuritySupplementalGroups SecurityField = "supplementalGroups"
	// SecuritySysctls has the names of the sysctls as values.
	SecuritySysctls SecurityField = "sysctls"
	// SecurityHostUsers is a field of the pod itself.
	SecurityHostUsers SecurityField = "hostUsers"
)

// SecurityFields are the settings that rules can be about.
func SecurityFields() []SecurityField {
	return []SecurityField{
		SecurityRunAsUser, SecurityRunAsGroup, SecurityRunAsNonRoot, SecurityEscalation, SecurityCapabilities,
		SecuritySeccomp, SecurityAppArmor, SecurityProcMount, SecuritySELinux, SecurityFSGroup,
		SecuritySupplementalGroups, SecuritySysctls, SecurityHostUsers,
	}
}

// SecurityAction says what becomes of a setting.
type SecurityAction string

const (
	// SecurityAllow keeps it.
	SecurityAllow SecurityAction = "allow"
	// SecurityStrip leaves it out and records that. A seccomp profile becomes
	// RuntimeDefault, and allowPrivilegeEscalation false: leaving them out would set
	// nothing right.
	SecurityStrip SecurityAction = "strip"
	// SecurityRefuse refuses the pod.
	SecurityRefuse SecurityAction = "refuse"
)

// SecurityRule says what becomes of some values of a setting.
type SecurityRule struct {
	Field SecurityField `json:"field"`
	// Values are glob patterns in which * stops at a slash; none match any value.
	Values []string       `json:"values,omitempty"`
	Action SecurityAction `json:"action"`
}

func (r *SecurityRule) validate(at string) error {
	switch {
	case !slices.Contains(SecurityFields(), r.Field):
		return fmt.Errorf("%s.field: %q: want one of %v", at, r.Field, SecurityFields())
	case !slices.Contains([]SecurityAction{SecurityAllow, SecurityStrip, SecurityRefuse}, r.Action):
		return fmt.Errorf("%s.action: %q: want allow, strip or refuse", at, r.Action)
	}
	for i, pattern := range r.Values {
		if _, err := path.Match(pattern, ""); err != nil {
			return fmt.Errorf("%s.values[%d]: pattern %q: %w", at, i, pattern, err)
		}
	}
	return nil
}

// matches tells whether a rule is about a value. ALL capabilities are among others those
// that a rule takes away.
func (r *SecurityRule) matches(field SecurityField, value string) bool {
	if r.Field != field {
		return false
	}
	if field == SecurityCapabilities {
		value = capability(value)
	}
	all := field == SecurityCapabilities && value == "ALL" && r.Action != SecurityAllow
	return len(r.Values) == 0 || all || slices.ContainsFunc(r.Values, func(pattern string) bool {
		if field == SecurityCapabilities {
			pattern = capability(pattern)
		}
		return glob(pattern, value)
	})
}

// capability is the one name of a capability: container runtimes take it in small
// letters, too, and some with its prefix.
func capability(name string) string { return strings.TrimPrefix(strings.ToUpper(name), "CAP_") }

// judge applies the policy's first rule that matches, and tells whether the value has
// to be left out.
func (t *translation) judge(field SecurityField, at, value string) (rule int, strip bool) {
	for i := range t.policy.Security {
		one := &t.policy.Security[i]
		if !one.matches(field, value) {
			continue
		}
		if one.Action == SecurityRefuse {
			t.refuse(Problem{
				Field: at, Value: value, Rule: fmt.Sprintf("the site refuses this setting (policy.security[%d])", i),
				Remedy: "remove it or choose another value",
			})
		}
		return i, one.Action == SecurityStrip
	}
	return -1, false
}

// strip tells whether a value is left out, and records it.
func (t *translation) strip(field SecurityField, at, value string) bool {
	rule, strip := t.judge(field, at, value)
	t.dropIf(strip, at, fmt.Sprintf("%s: stripped by policy.security[%d]", value, rule))
	return strip
}

// setting applies the rules to one field of a security context.
func setting[V any](t *translation, field SecurityField, at string, value **V, text func(V) string) {
	if *value != nil && t.strip(field, at+"."+string(field), text(**value)) {
		*value = nil
	}
}

func plain[V any](value V) string { return fmt.Sprint(value) }

// settings applies the rules to the entries of a list.
func settings[V any](t *translation, field SecurityField, at string, values []V, text func(V) string) []V {
	return slices.DeleteFunc(values, func(value V) bool {
		return t.strip(field, at+"."+string(field), text(value))
	})
}

// podSecurity is the security context of the pod.
func (t *translation) podSecurity(from *corev1.PodSecurityContext) *corev1.PodSecurityContext {
	t.appArmorAnnotations()
	if from == nil {
		return nil
	}
	at := "spec.securityContext"
	setting(t, SecurityRunAsUser, at, &from.RunAsUser, plain)
	setting(t, SecurityRunAsGroup, at, &from.RunAsGroup, plain)
	setting(t, SecurityRunAsNonRoot, at, &from.RunAsNonRoot, plain)
	setting(t, SecurityFSGroup, at, &from.FSGroup, plain)
	setting(t, SecuritySELinux, at, &from.SELinuxOptions, selinux)
	setting(t, SecurityAppArmor, at, &from.AppArmorProfile, appArmor)
	t.seccomp(at, from.SeccompProfile)
	from.SupplementalGroups = settings(t, SecuritySupplementalGroups, at, from.SupplementalGroups, plain)
	from.Sysctls = settings(t, SecuritySysctls, at, from.Sysctls, func(s corev1.Sysctl) string { return s.Name })
	return from
}

func (t *translation) hostUsers(from *bool) *bool {
	setting(t, SecurityHostUsers, "spec", &from, plain)
	return from
}

// security is the security context of a container.
func (t *translation) security(at string, from *corev1.SecurityContext) *corev1.SecurityContext {
	at += ".securityContext"
	from = t.escalation(at, from)
	if from == nil {
		return nil
	}
	if is(from.Privileged) && !t.policy.AllowPrivileged {
		t.refuse(Problem{
			Field: at + ".privileged", Value: "true",
			Rule:   "the site does not run privileged containers of other clusters",
			Remedy: "remove it, or ask the site for policy.allowPrivileged",
		})
	}
	if from.Capabilities != nil {
		t.refuseCapabilities(at, from.Capabilities.Add)
		from.Capabilities.Add = settings(t, SecurityCapabilities, at, from.Capabilities.Add, plain)
	}
	setting(t, SecurityRunAsUser, at, &from.RunAsUser, plain)
	setting(t, SecurityRunAsGroup, at, &from.RunAsGroup, plain)
	setting(t, SecurityRunAsNonRoot, at, &from.RunAsNonRoot, plain)
	setting(t, SecurityProcMount, at, &from.ProcMount, plain)
	setting(t, SecuritySELinux, at, &from.SELinuxOptions, selinux)
	setting(t, SecurityAppArmor, at, &from.AppArmorProfile, appArmor)
	t.seccomp(at, from.SeccompProfile)
	return from
}

func (t *translation) refuseCapabilities(at string, added []corev1.Capability) {
	for _, one := range added {
		refused := slices.ContainsFunc(t.policy.RefusedCapabilities, func(name corev1.Capability) bool {
			return capability(string(name)) == capability(string(one)) || capability(string(one)) == "ALL"
		})
		if refused {
			t.refuse(Problem{
				Field: at + ".capabilities.add", Value: string(one),
				Rule: "the site refuses this capability (policy.refusedCapabilities)", Remedy: "remove it",
			})
		}
	}
}

// escalation applies the rules to what a container may do that sets nothing, too.
func (t *translation) escalation(at string, from *corev1.SecurityContext) *corev1.SecurityContext {
	allowed := from == nil || from.AllowPrivilegeEscalation == nil || *from.AllowPrivilegeEscalation
	at += "." + string(SecurityEscalation)
	rule, strip := t.judge(SecurityEscalation, at, plain(allowed))
	if !strip {
		return from
	}
	if from == nil {
		from = &corev1.SecurityContext{}
	}
	if allowed {
		from.AllowPrivilegeEscalation = new(false)
		t.mapped(at, fmt.Sprintf("false by policy.security[%d]", rule))
	} else {
		from.AllowPrivilegeEscalation = nil
		t.dropped(at, fmt.Sprintf("false: stripped by policy.security[%d]", rule))
	}
	return from
}

func (t *translation) seccomp(at string, profile *corev1.SeccompProfile) {
	if profile == nil {
		return
	}
	value := profileText(string(profile.Type), profile.LocalhostProfile)
	at += "." + string(SecuritySeccomp)
	rule, strip := t.judge(SecuritySeccomp, at, value)
	if strip && profile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		*profile = corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
		t.mapped(at, fmt.Sprintf("%s to RuntimeDefault by policy.security[%d]", value, rule))
	}
}

// appArmorPrefix is that of the annotations that were AppArmor's before it had fields.
// API servers make fields of them.
const appArmorPrefix = "container.apparmor.security.beta.kubernetes.io/"

func (t *translation) appArmorAnnotations() {
	for key, value := range sorted(t.pod.Annotations) {
		if !strings.HasPrefix(key, appArmorPrefix) {
			continue
		}
		kind, name, local := strings.Cut(value, "/")
		switch {
		case value == "unconfined":
			value = string(corev1.AppArmorProfileTypeUnconfined)
		case value == "runtime/default":
			value = string(corev1.AppArmorProfileTypeRuntimeDefault)
		case local && kind == "localhost":
			value = profileText(string(corev1.AppArmorProfileTypeLocalhost), &name)
		}
		if t.strip(SecurityAppArmor, "metadata.annotations["+key+"]", value) {
			t.stripped[key] = true
		}
	}
}

func appArmor(profile corev1.AppArmorProfile) string {
	return profileText(string(profile.Type), profile.LocalhostProfile)
}

func profileText(kind string, name *string) string {
	if name == nil {
		return kind
	}
	return kind + "/" + *name
}

func selinux(options corev1.SELinuxOptions) string {
	return strings.Join([]string{options.User, options.Role, options.Type, options.Level}, ":")
}
