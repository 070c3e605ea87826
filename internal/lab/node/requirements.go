// SPDX-License-Identifier: Apache-2.0

package node

// Requirement is a file that a node needs and the Debian package that has it.
type Requirement struct {
	Package string
	// Files are where the file may be; one is enough.
	Files []string
}

// Requirements are all files of this machine that nodes and their images use.
func Requirements() []Requirement {
	program := func(pkg, name string) Requirement {
		return Requirement{Package: pkg, Files: []string{"/usr/bin/" + name, "/usr/sbin/" + name, "/bin/" + name, "/sbin/" + name, "/usr/local/bin/" + name, "/usr/local/sbin/" + name}}
	}
	return []Requirement{
		program("containerd", "containerd"),
		program("containerd", "containerd-shim-runc-v2"),
		program("containerd", "ctr"),
		program("runc", "runc"),
		{Package: "containernetworking-plugins", Files: []string{"/usr/lib/cni/ptp", "/opt/cni/bin/ptp"}},
		program("busybox-static", "busybox"),
		program("iptables", "iptables"),
		program("nftables", "nft"),
		program("iproute2", "ip"),
		program("mmdebstrap", "mmdebstrap"),
		program("util-linux", "unshare"),
		program("util-linux", "nsenter"),
		program("mount", "mount"),
	}
}
