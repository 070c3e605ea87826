// SPDX-License-Identifier: Apache-2.0

package openstack

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// The images of every site.
const (
	ImageAlmaLinux = "almalinux9-k8s-node-26-09-2023"
	ImageDebian    = "debian12-k8s-node"
)

// sourceProperty of an image tells what it was made from.
const sourceProperty = "caas_lab_source"

// Image is what a server's disk is made from.
type Image struct {
	Name string
	// Disk is a file in the format qcow2.
	Disk string
	// Kernel and Ramdisk, when not empty, are booted instead of what is on the disk, with CommandLine.
	Kernel, Ramdisk, CommandLine string
}

// makeImages makes the images of every site, and those of the configuration. Where the hypervisor does not look at images,
// there is nothing of interest in them.
func (s *Site) makeImages(ctx context.Context, admin *Session) error {
	given := map[string]bool{}
	for _, image := range s.cfg.Images {
		given[image.Name] = true
		s.cfg.Progress("uploading image " + image.Name)
		if err := makeImage(ctx, admin, image); err != nil {
			return fmt.Errorf("image %s: %w", image.Name, err)
		}
	}
	for _, name := range []string{ImageAlmaLinux, ImageDebian} {
		if given[name] {
			continue
		}
		wanted := object{"name": name, "visibility": "public", "disk_format": "raw", "container_format": "bare", sourceProperty: "nothing"}
		open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("no disk\n")), nil }
		if _, err := upload(ctx, admin, wanted, open); err != nil {
			return fmt.Errorf("image %s: %w", name, err)
		}
	}
	return nil
}

func makeImage(ctx context.Context, admin *Session, image Image) error {
	disk := object{"name": image.Name, "visibility": "public", "disk_format": "qcow2", "container_format": "bare"}
	for _, part := range []struct{ property, path, format string }{
		{"kernel_id", image.Kernel, "aki"}, {"ramdisk_id", image.Ramdisk, "ari"},
	} {
		if part.path == "" {
			continue
		}
		id, err := uploadFile(ctx, admin, part.path, object{
			"name": image.Name + "-" + part.format, "visibility": "public", "disk_format": part.format, "container_format": part.format,
		})
		if err != nil {
			return err
		}
		disk[part.property] = id
	}
	if image.CommandLine != "" {
		disk["os_command_line"] = image.CommandLine
	}
	_, err := uploadFile(ctx, admin, image.Disk, disk)
	return err
}

func uploadFile(ctx context.Context, admin *Session, path string, wanted object) (id string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	wanted[sourceProperty] = fmt.Sprintf("%s %d %d", path, info.Size(), info.ModTime().UnixNano())
	return upload(ctx, admin, wanted, func() (io.ReadCloser, error) { return os.Open(filepath.Clean(path)) })
}

// upload makes an image. One of the name that was made from the same is left alone; all others of it are removed, for
// a name has to stand for one image.
func upload(ctx context.Context, admin *Session, wanted object, open func() (io.ReadCloser, error)) (id string, err error) {
	name, _ := wanted["name"].(string)
	var list struct{ Images []map[string]any }
	if err := admin.Do(ctx, http.MethodGet, "image", "/v2/images?name="+url.QueryEscape(name), nil, &list); err != nil {
		return "", err
	}
	for _, image := range list.Images {
		found, _ := image["id"].(string)
		if id == "" && image["status"] == "active" && same(image, wanted) {
			id = found
			continue
		}
		if err := admin.Do(ctx, http.MethodDelete, "image", "/v2/images/"+found, nil, nil); err != nil {
			return "", err
		}
	}
	if id != "" {
		return id, nil
	}
	var made resource
	if err := admin.Do(ctx, http.MethodPost, "image", "/v2/images", wanted, &made); err != nil {
		return "", err
	}
	file, err := open()
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // only read
	return made.ID, admin.Do(ctx, http.MethodPut, "image", "/v2/images/"+made.ID+"/file", io.Reader(file), nil)
}

func same(has map[string]any, wanted object) bool {
	for key, value := range wanted {
		if has[key] != value {
			return false
		}
	}
	return true
}
