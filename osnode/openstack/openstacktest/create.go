// SPDX-License-Identifier: Apache-2.0

package openstacktest

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"

	"github.com/google/uuid"
)

type createRequest struct {
	Name           string                  `json:"name"`
	Image          string                  `json:"imageRef"`
	Flavor         string                  `json:"flavorRef"`
	Key            string                  `json:"key_name"`
	Zone           string                  `json:"availability_zone"`
	Metadata       map[string]string       `json:"metadata"`
	Tags           []string                `json:"tags"`
	UserData       string                  `json:"user_data"`
	Networks       json.RawMessage         `json:"networks"`
	SecurityGroups []struct{ Name string } `json:"security_groups"`
	Devices        []struct {
		Source      string `json:"source_type"`
		Destination string `json:"destination_type"`
		Image       string `json:"uuid"`
		Size        int    `json:"volume_size"`
		Type        string `json:"volume_type"`
		Ephemeral   bool   `json:"delete_on_termination"`
	} `json:"block_device_mapping_v2"`
}

// refusal is an error of Nova's.
type refusal struct {
	code    int
	message string
}

func refuse(code int, format string, values ...any) *refusal {
	return &refusal{code, fmt.Sprintf(format, values...)}
}

func (f *Fake) createServer(w http.ResponseWriter, r *http.Request, c call) {
	var request createRequest
	if !read(r, "server", &request) {
		novaError(w, http.StatusBadRequest, "Malformed request body")
		return
	}
	made, refused := f.newServer(request, c)
	if refused != nil {
		novaError(w, refused.code, refused.message)
		return
	}
	reply(w, http.StatusAccepted, object{"server": object{
		"id": made.id, "links": []object{}, "OS-DCF:diskConfig": "MANUAL", "adminPass": newID(),
		"security_groups": []object{{"name": "default"}},
	}})
}

// newServer checks in Nova's order: request, image, flavor, key pair, networks, quota.
func (f *Fake) newServer(request createRequest, c call) (*instance, *refusal) {
	kind, refused := f.checkRequest(request, c)
	if refused != nil {
		return nil, refused
	}
	networks, refused := f.chooseNetworks(request, c)
	if refused != nil {
		return nil, refused
	}
	groups, refused := f.chooseGroups(request, c)
	if refused != nil {
		return nil, refused
	}
	if refused := c.in.room(kind); refused != nil {
		return nil, refused
	}
	at := f.options.Now()
	made := &instance{
		id: uuid.NewString(), name: request.Name, project: c.in.id, user: c.by.user, key: request.Key, image: request.Image,
		zone: request.Zone, flavor: kind, metadata: request.Metadata, tags: request.Tags, userData: request.UserData,
		status: "BUILD", created: at, updated: at, due: at.Add(f.options.Build),
	}
	if made.metadata == nil {
		made.metadata = map[string]string{}
	}
	if made.zone == "" {
		made.zone = "nova"
	}
	for _, one := range networks {
		made.ports = append(made.ports, f.newPort(one, c.in.id, made.id, groups))
	}
	for _, device := range request.Devices {
		made.volumes = append(made.volumes, f.newVolume(c.in.id, made.id, device.Size, device.Type, device.Ephemeral))
	}
	c.in.keep(made)
	f.servers[made.id] = made
	if f.options.Build == 0 {
		f.build(made)
	} else {
		f.building = append(f.building, made)
	}
	return made, nil
}

func (p *project) keep(s *instance) {
	p.servers[s.id] = s
	if p.byName[s.name] == nil {
		p.byName[s.name] = map[string]*instance{}
	}
	p.byName[s.name][s.id] = s
	p.used.Instances++
	p.used.Cores += s.flavor.vcpus
	p.used.MemoryMiB += s.flavor.ram
}

func (f *Fake) checkRequest(request createRequest, c call) (*flavor, *refusal) {
	const bad = http.StatusBadRequest
	if request.Name == "" || len(request.Name) > 255 {
		return nil, refuse(bad, "Invalid input for field/attribute name. Value: %s.", request.Name)
	}
	if len(request.Tags) > 0 && c.minor < minorTags {
		return nil, refuse(bad, "Additional properties are not allowed ('tags' was unexpected)")
	}
	if len(request.UserData) > 65535 {
		return nil, refuse(bad, "Invalid input for field/attribute user_data. Value: ... is too long")
	}
	if _, err := base64.StdEncoding.DecodeString(request.UserData); err != nil {
		return nil, refuse(bad, "Invalid input for field/attribute user_data. Value is not a 'base64'")
	}
	if refused := checkMetadata(request.Metadata); refused != nil {
		return nil, refused
	}
	return f.checkReferences(request, c)
}

// metadataKey is Nova's own pattern (nova/api/validation/parameter_types.py): no slash is in it.
var metadataKey = regexp.MustCompile(`^[a-zA-Z0-9-_:. ]{1,255}$`)

func checkMetadata(metadata map[string]string) *refusal {
	for key, value := range metadata {
		if !metadataKey.MatchString(key) {
			return refuse(http.StatusBadRequest, "Invalid input for field/attribute metadata. '%s' does not match any of the regexes: '%s'", key, metadataKey)
		}
		if len(value) > 255 {
			return refuse(http.StatusBadRequest, "Invalid input for field/attribute %s. Value is too long", key)
		}
	}
	return nil
}

// checkReferences looks for what a request names.
func (f *Fake) checkReferences(request createRequest, c call) (*flavor, *refusal) {
	const bad = http.StatusBadRequest
	source := request.Image
	if len(request.Devices) > 0 {
		source = request.Devices[0].Image
	}
	if picture := f.images[source]; picture == nil || picture.status != "active" {
		return nil, refuse(bad, "Can not find requested image")
	}
	kind := f.flavors[request.Flavor]
	if kind == nil {
		return nil, refuse(bad, "Flavor %s could not be found.", request.Flavor)
	}
	if _, ok := f.keyPairs[c.by.user][request.Key]; request.Key != "" && !ok {
		return nil, refuse(bad, "Invalid key_name provided.")
	}
	if request.Zone != "" && request.Zone != "nova" {
		return nil, refuse(bad, "The requested availability zone is not available")
	}
	return kind, nil
}

func (f *Fake) chooseNetworks(request createRequest, c call) ([]*network, *refusal) {
	var wanted []struct {
		ID string `json:"uuid"`
	}
	if json.Unmarshal(request.Networks, &wanted) == nil && len(wanted) > 0 {
		ids := make([]string, 0, len(wanted))
		for _, one := range wanted {
			ids = append(ids, one.ID)
		}
		return f.networksOf(ids, c)
	}
	if string(request.Networks) == `"none"` {
		return nil, nil
	}
	if len(request.Networks) == 0 && c.minor >= 37 {
		return nil, refuse(http.StatusBadRequest, "Invalid input for field/attribute server. 'networks' is a required property")
	}
	var own []*network
	for _, one := range f.networks {
		if one.project == c.in.id {
			own = append(own, one)
		}
	}
	if len(own) > 1 {
		return nil, refuse(http.StatusConflict, "Multiple possible networks found, use a Network ID to be more specific.")
	}
	return own, nil
}

func (f *Fake) networksOf(ids []string, c call) ([]*network, *refusal) {
	var chosen []*network
	for _, id := range ids {
		found := f.networks[id]
		if found == nil || found.project != c.in.id && !found.shared {
			return nil, refuse(http.StatusBadRequest, "Network %s could not be found.", id)
		}
		chosen = append(chosen, found)
	}
	return chosen, nil
}

func (f *Fake) chooseGroups(request createRequest, c call) ([]string, *refusal) {
	var chosen []string
	for _, wanted := range request.SecurityGroups {
		var matched []string
		for _, one := range f.groups {
			if one.project == c.in.id && (one.id == wanted.Name || one.name == wanted.Name) {
				matched = append(matched, one.id)
			}
		}
		switch len(matched) {
		case 0:
			return nil, refuse(http.StatusBadRequest, "Security group %s not found.", wanted.Name)
		case 1:
			chosen = append(chosen, matched[0])
		default:
			return nil, refuse(http.StatusConflict, "Multiple security groups found matching '%s'. Use an ID to be more specific.", wanted.Name)
		}
	}
	return chosen, nil
}

// room tells whether the quota lets one more server of a flavor in.
func (p *project) room(kind *flavor) *refusal {
	for _, one := range []struct {
		name               string
		asked, used, limit int
	}{
		{"instances", 1, p.used.Instances, p.quota.Instances},
		{"cores", kind.vcpus, p.used.Cores, p.quota.Cores},
		{"ram", kind.ram, p.used.MemoryMiB, p.quota.MemoryMiB},
	} {
		if one.limit >= 0 && one.used+one.asked > one.limit {
			return refuse(http.StatusForbidden, "Quota exceeded for %s: Requested %d, but already used %d of %d %s",
				one.name, one.asked, one.used, one.limit, one.name)
		}
	}
	return nil
}

// build ends a build; the lock is held.
func (f *Fake) build(s *instance) {
	s.status, s.updated = "ACTIVE", f.options.Now()
	host := f.options.Host
	if host.VCPUs > 0 && s.flavor.vcpus > host.VCPUs || host.MemoryMiB > 0 && s.flavor.ram > host.MemoryMiB {
		s.fault = &Fault{Code: http.StatusInternalServerError, Message: "No valid host was found. "}
	}
	if f.breaks != nil && s.fault == nil {
		s.fault = f.breaks(f.view(s))
	}
	if s.fault != nil {
		s.status = "ERROR"
		return
	}
	if hook := f.options.Booted; hook != nil {
		view := f.view(s)
		f.events = append(f.events, func() { hook(view) })
	}
}
