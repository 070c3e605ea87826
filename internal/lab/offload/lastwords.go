// SPDX-License-Identifier: Apache-2.0

package offload

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// lastLines is how much of each log an error shows.
const lastLines = 5

// lastWords are the ends of the logs of the path's programs: whoever reads the error may not have the lab any more.
func (p *Path) lastWords() string {
	var words strings.Builder
	for _, component := range p.Components() {
		process, err := p.Lab.Process(p.process(component))
		if err != nil {
			fmt.Fprintf(&words, "\n%s: %v", component, err)
			continue
		}
		content, err := os.ReadFile(filepath.Clean(process.Spec().LogFile))
		if err != nil {
			fmt.Fprintf(&words, "\n%s: %v", component, err)
			continue
		}
		lines := slices.Collect(bytes.Lines(content))
		for _, line := range lines[max(0, len(lines)-lastLines):] {
			fmt.Fprintf(&words, "\n%s: %s", component, bytes.TrimSpace(line))
		}
	}
	return words.String()
}
