// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"

	"github.com/cloudveneto/caas/internal/interlink"
)

// createRequest is interlink.CreateRequest with its objects as they came.
type createRequest struct {
	Pod              json.RawMessage `json:"pod"`
	ConfigMaps       []object        `json:"configmaps"`
	Secrets          []object        `json:"secrets"`
	ProjectedVolumes []object        `json:"projectedvolumesmaps"`
	JobScriptURL     string          `json:"jobscriptURL"`
	Claims           json.RawMessage `json:"claims"`

	view podView
}

// pluginPod is interlink.PluginPod with its objects as they came.
type pluginPod struct {
	Pod        json.RawMessage     `json:"pod"`
	Containers []pluginContainer   `json:"container"`
	JobConfig  interlink.JobConfig `json:"jobConfig"`
	JobScript  string              `json:"jobScript,omitempty"`
	Referenced *referenced         `json:"referenced,omitempty"`
}

// pluginContainer is interlink.PluginContainer with its objects as they came.
type pluginContainer struct {
	Name             string   `json:"name"`
	ConfigMaps       []object `json:"configMaps"`
	ProjectedVolumes []object `json:"projectedvolumemaps"`
	Secrets          []object `json:"secrets"`
	EmptyDirs        []string `json:"emptyDirs"`
}

// referenced is interlink.ReferencedObjects with its objects as they came.
type referenced struct {
	ConfigMaps       []object `json:"configMaps,omitempty"`
	Secrets          []object `json:"secrets,omitempty"`
	ProjectedVolumes []object `json:"projectedVolumes,omitempty"`
	// Claims is the plugin's to read.
	Claims json.RawMessage `json:"claims,omitempty"`
}

// object is a ConfigMap or Secret: its JSON, and its name to find it by.
type object struct {
	name string
	raw  json.RawMessage
}

// UnmarshalJSON keeps the text and looks at the name.
func (o *object) UnmarshalJSON(text []byte) error {
	var view struct {
		Metadata metadata `json:"metadata"`
	}
	if err := json.Unmarshal(text, &view); err != nil {
		return err
	}
	o.name, o.raw = view.Metadata.Name, bytes.Clone(text)
	return nil
}

// MarshalJSON returns the text as it came.
func (o object) MarshalJSON() ([]byte, error) { return o.raw.MarshalJSON() }

// metadata is what this program reads of an object's identity.
type metadata struct {
	Name      string `json:"name"`
	Namespace string `json:"namespace"`
	UID       string `json:"uid"`
}

// LogValue names the object in logs.
func (m metadata) LogValue() slog.Value {
	return slog.GroupValue(slog.String("namespace", m.Namespace), slog.String("name", m.Name), slog.String("uid", m.UID))
}

// podView is what this program reads of a pod.
type podView struct {
	Metadata metadata `json:"metadata"`
	Spec     struct {
		InitContainers []containerView `json:"initContainers"`
		Containers     []containerView `json:"containers"`
		Volumes        []volumeView    `json:"volumes"`
	} `json:"spec"`
	Status struct {
		Phase string `json:"phase"`
	} `json:"status"`
}

type containerView struct {
	Name         string `json:"name"`
	VolumeMounts []struct {
		Name string `json:"name"`
	} `json:"volumeMounts"`
}

type volumeView struct {
	Name      string `json:"name"`
	ConfigMap *struct {
		Name string `json:"name"`
	} `json:"configMap"`
	Secret *struct {
		SecretName string `json:"secretName"`
	} `json:"secret"`
	Projected   *struct{} `json:"projected"`
	DownwardAPI *struct{} `json:"downwardAPI"`
}

// shelf is a list of objects and which of them a container took.
type shelf struct {
	objects []object
	taken   map[string]bool
}

func newShelf(objects []object) *shelf { return &shelf{objects: objects, taken: map[string]bool{}} }

// take appends the object of that name to list, if there is one.
func (s *shelf) take(list []object, name string) []object {
	for _, candidate := range s.objects {
		if candidate.name == name {
			s.taken[name] = true
			return append(list, candidate)
		}
	}
	return list
}

// rest lists what nobody took, each name once; without a name nothing can refer to it.
func (s *shelf) rest() []object {
	var rest []object
	for _, candidate := range s.objects {
		if candidate.name != "" && !s.taken[candidate.name] {
			s.taken[candidate.name] = true
			rest = append(rest, candidate)
		}
	}
	return rest
}

// shelves hold all objects of a request.
type shelves struct{ configMaps, secrets, projected *shelf }

// distribute gives each container the objects that it mounts, init containers
// first, one entry per mount. An object that no container mounts is handed over
// beside them; an object that was not sent is the plugin's to complain about.
func (r *createRequest) distribute() (pluginPod, error) {
	if err := json.Unmarshal(r.Pod, &r.view); err != nil || r.view.Metadata.UID == "" {
		return pluginPod{}, refuse(http.StatusBadRequest, "create: the request holds no valid pod with a metadata.uid")
	}
	all := shelves{newShelf(r.ConfigMaps), newShelf(r.Secrets), newShelf(r.ProjectedVolumes)}
	volumes := map[string]volumeView{}
	for _, volume := range r.view.Spec.Volumes {
		volumes[volume.Name] = volume
	}
	pod := pluginPod{Pod: r.Pod}
	for _, container := range slices.Concat(r.view.Spec.InitContainers, r.view.Spec.Containers) {
		pod.Containers = append(pod.Containers, all.fill(container, volumes))
	}
	rest := referenced{
		ConfigMaps: all.configMaps.rest(), Secrets: all.secrets.rest(), ProjectedVolumes: all.projected.rest(),
		Claims: r.Claims,
	}
	if rest.ConfigMaps != nil || rest.Secrets != nil || rest.ProjectedVolumes != nil || rest.Claims != nil {
		pod.Referenced = &rest
	}
	return pod, nil
}

func (s shelves) fill(container containerView, volumes map[string]volumeView) pluginContainer {
	filled := pluginContainer{Name: container.Name}
	for _, mount := range container.VolumeMounts {
		switch volume := volumes[mount.Name]; {
		case volume.ConfigMap != nil:
			filled.ConfigMaps = s.configMaps.take(filled.ConfigMaps, volume.ConfigMap.Name)
		case volume.Secret != nil:
			filled.Secrets = s.secrets.take(filled.Secrets, volume.Secret.SecretName)
		case volume.Projected != nil, volume.DownwardAPI != nil:
			filled.ProjectedVolumes = s.projected.take(filled.ProjectedVolumes, volume.Name)
		}
	}
	return filled
}
