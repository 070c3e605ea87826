// SPDX-License-Identifier: Apache-2.0

package bootstrap

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// mergeType is how a cloud-config is merged into those before it; see cloud-init's
// cloudinit/mergers.
const mergeType = "list(append)+dict(no_replace,recurse_list)+str()"

// The content types that cloud-init knows, as far as they are used.
const (
	typeCloudConfig = "text/cloud-config"
	typeScript      = "text/x-shellscript"
	typeBoothook    = "text/cloud-boothook"
)

// part is one part of the message.
type part struct {
	contentType string
	// filename is also the name under which cloud-init keeps a script, and sorts it.
	filename string
	content  string
}

// maxLine is the longest line that goes through as it is; mail knows no longer ones.
const maxLine = 998

// message is the MIME message with the parts. Lines end as in the parts themselves, with
// a line feed: Python's parser keeps the ends of a part's lines, and a script with
// others would not run.
func message(parts []part) []byte {
	sum := sha256.New()
	for _, part := range parts {
		_, _ = fmt.Fprintf(sum, "%s %s %d\n%s", part.contentType, part.filename, len(part.content), part.content)
	}
	// No text can contain its own hash, so none contains the boundary.
	boundary := "osn-" + hex.EncodeToString(sum.Sum(nil))[:32]
	var out bytes.Buffer
	_, _ = fmt.Fprintf(&out, "Content-Type: multipart/mixed; boundary=%q\nMIME-Version: 1.0\n", boundary)
	for _, part := range parts {
		part.write(&out, boundary)
	}
	_, _ = fmt.Fprintf(&out, "\n--%s--\n", boundary)
	return out.Bytes()
}

func (p *part) write(out *bytes.Buffer, boundary string) {
	encoding := "7bit"
	if !p.plain() {
		encoding = "base64" // of other encodings, Python's parser spoils what is not ASCII
	}
	_, _ = fmt.Fprintf(out, "\n--%s\nContent-Type: %s; charset=\"utf-8\"\nMIME-Version: 1.0\n", boundary, p.contentType)
	_, _ = fmt.Fprintf(out, "Content-Transfer-Encoding: %s\nContent-Disposition: attachment; filename=%q\n", encoding, p.filename)
	if p.contentType == typeCloudConfig {
		_, _ = fmt.Fprintf(out, "Merge-Type: %s\n", mergeType)
	}
	out.WriteByte('\n')
	if encoding == "7bit" {
		out.WriteString(p.content)
		return
	}
	encoded := base64.StdEncoding.EncodeToString([]byte(p.content))
	for len(encoded) > 76 {
		out.WriteString(encoded[:76] + "\n")
		encoded = encoded[76:]
	}
	out.WriteString(encoded)
}

// plain tells whether the content can be in the message as it is.
func (p *part) plain() bool {
	for line := range strings.Lines(p.content) {
		if len(line) > maxLine {
			return false
		}
	}
	for i := range len(p.content) {
		if c := p.content[i]; c >= 0x80 || c < ' ' && c != '\n' && c != '\t' {
			return false
		}
	}
	return true
}
