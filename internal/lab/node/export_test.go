// SPDX-License-Identifier: Apache-2.0

package node

// Files gives tests what Start writes on a machine with the given properties.
func (c Config) Files(cniBinaries, snapshotter string, canLowerOOMScore bool, ca, proxyKubeconfig []byte) (map[string][]byte, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	return c.files(environmentOf{cniBinaries: cniBinaries, snapshotter: snapshotter, canLowerOOMScore: canLowerOOMScore}, ca, proxyKubeconfig)
}

// KubeletArguments gives tests what the holder runs the kubelet with.
func (c Config) KubeletArguments() []string { return c.kubeletArguments() }
