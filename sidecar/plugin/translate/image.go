// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// dockerHub is the registry of images that name none.
const dockerHub = "docker.io"

// ImageRule puts images of one registry, or of a part of it, in the place of others,
// for sites whose nodes reach no other registry.
type ImageRule struct {
	// Match is a registry, a part of its repositories or a repository, with docker.io and
	// library/ written out; "*" is any image. A trailing /* says the same as none.
	Match string `json:"match"`
	// Replace stands in its place; the rest of the name, tag and digest stay.
	Replace string `json:"replace"`
}

func (r *ImageRule) validate(at string) error {
	var problems []error
	match := trimWildcard(r.Match)
	if match != "" && (!repository(match) || !namesRegistry(match)) {
		problems = append(problems, fmt.Errorf("%s.match: %q: want the beginning of an image's name such as docker.io/*, or *", at, r.Match))
	} else if r.Match == "" {
		problems = append(problems, fmt.Errorf("%s.match: empty, write * for any image", at))
	}
	if replace := trimWildcard(r.Replace); !repository(replace) {
		problems = append(problems, fmt.Errorf("%s.replace: %q: want a registry and perhaps a path, without scheme, tag and digest", at, r.Replace))
	}
	return errors.Join(problems...)
}

// repository tells whether text can be the beginning of an image's name.
func repository(text string) bool {
	host, path, _ := strings.Cut(text, "/")
	return regexp.MustCompile(`^([a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?|\[[0-9a-fA-F:]+\])(:[0-9]+)?$`).MatchString(host) &&
		(path == "" && !strings.HasSuffix(text, "/") || regexp.MustCompile(`^[a-z0-9._-]+(/[a-z0-9._-]+)*$`).MatchString(path))
}

func trimWildcard(prefix string) string {
	if prefix == "*" {
		return ""
	}
	return strings.TrimSuffix(prefix, "/*")
}

// namesRegistry tells whether a name begins with a registry, and not with a path at
// Docker Hub.
func namesRegistry(name string) bool {
	host, _, _ := strings.Cut(name, "/")
	return strings.ContainsAny(host, ".:") || host == "localhost"
}

// image applies the policy's first rule that matches.
func (t *translation) image(at, reference string) string {
	rewritten, _ := t.rewritten(at, reference)
	return rewritten
}

func (t *translation) rewritten(at, reference string) (image string, matched bool) {
	if reference == "" {
		return reference, false
	}
	name, version := splitImage(reference)
	for i := range t.policy.Images {
		rest, matches := t.policy.Images[i].rest(name)
		if !matches {
			continue
		}
		image = trimWildcard(t.policy.Images[i].Replace) + rest + version
		if image != reference {
			t.mapped(at, fmt.Sprintf("policy.images[%d]: %s to %s", i, reference, image))
		}
		return image, true
	}
	return reference, false
}

// rest is what of an image's full name is not matched, with its leading slash.
func (r *ImageRule) rest(name string) (rest string, matches bool) {
	match := trimWildcard(r.Match)
	if match == "" {
		return "/" + name, true
	}
	rest, matches = strings.CutPrefix(name, match)
	return rest, matches && (rest == "" || rest[0] == '/')
}

// splitImage parts an image's full name from its tag and digest.
func splitImage(reference string) (name, version string) {
	name = reference
	if at := strings.IndexByte(name, '@'); at >= 0 {
		name = name[:at]
	}
	if colon := strings.LastIndexByte(name, ':'); colon > strings.LastIndexByte(name, '/') {
		name = name[:colon]
	}
	version = reference[len(name):]
	host, path, found := strings.Cut(name, "/")
	if !found || !namesRegistry(host) {
		host, path = dockerHub, name
	}
	if host == "index.docker.io" {
		host = dockerHub
	}
	if host == dockerHub && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	return host + "/" + path, version
}

// imageVolume lets an image be mounted that the policy names a place for.
func (t *translation) imageVolume(at string, from *corev1.Volume) (source corev1.VolumeSource, rewritten bool) {
	if from.Image == nil {
		return source, false
	}
	reference, rewritten := t.rewritten(at+".image", from.Image.Reference)
	if !rewritten {
		return source, false
	}
	return corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: reference, PullPolicy: from.Image.PullPolicy}}, true
}
