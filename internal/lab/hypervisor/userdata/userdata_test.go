// SPDX-License-Identifier: Apache-2.0

package userdata_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/cloudveneto/caas/internal/lab/hypervisor/userdata"
)

func compressed(tb testing.TB, text string) string {
	tb.Helper()
	var buffer bytes.Buffer
	writer := gzip.NewWriter(&buffer)
	_, err := writer.Write([]byte(text))
	require.NoError(tb, err)
	require.NoError(tb, writer.Close())
	return buffer.String()
}

func encoded(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

// multi is a multipart of parts, each with its header.
func multi(parts ...string) string {
	return "Content-Type: multipart/mixed; boundary=\"==b==\"\nMIME-Version: 1.0\n\n--==b==\n" + strings.Join(parts, "\n--==b==\n") + "\n--==b==--\n"
}

const (
	appending = "Merge-Type: list(append)+dict(no_replace,recurse_list)+str()\n"
	one       = "#cloud-config\nwrite_files:\n- {path: /one, content: first}\n"
	two       = "#cloud-config\nwrite_files:\n- {path: /two, content: second}\n"
)

func TestFiles(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		data    string
		want    map[string]string
		problem string
	}{
		"nothing":         {data: ""},
		"a script":        {data: "#!/bin/sh\necho write_files\n"},
		"a cloud-config":  {data: one, want: map[string]string{"/one": "first"}},
		"compressed":      {data: compressed(t, one), want: map[string]string{"/one": "first"}},
		"no files":        {data: "#cloud-config\nruncmd: [ls]\n"},
		"other user data": {data: "hello\n"},
		"encodings": {
			data: "#cloud-config\nwrite_files:\n" +
				"- {path: /b64, encoding: b64, content: " + encoded("B") + "}\n- {path: /base64, encoding: base64, content: " + encoded("C") + "}\n" +
				"- {path: /gz, encoding: gz+b64, content: " + encoded(compressed(t, "D")) + "}\n- {path: /plain, encoding: text/plain, content: E}\n- {path: /odd, encoding: rot13, content: F}\n" +
				"- {path: /bin, encoding: gzip, content: !!binary " + encoded("G") + "}\n",
			want: map[string]string{"/b64": "B", "/base64": "C", "/gz": "D", "/plain": "E", "/odd": "F"},
		},
		"a multipart that appends": {
			data: multi("Content-Type: text/cloud-config\n"+appending+"\n"+one, "Content-Type: text/x-shellscript\n\n#!/bin/sh\n", "Content-Type: text/cloud-config\n"+appending+"\n"+two),
			want: map[string]string{"/one": "first", "/two": "second"},
		},
		"a multipart that replaces":       {data: multi("Content-Type: text/cloud-config\n\n"+one, "Content-Type: text/cloud-config\n\n"+two), want: map[string]string{"/two": "second"}},
		"one that keeps":                  {data: multi("Content-Type: text/cloud-config\n\n"+one, "Content-Type: text/cloud-config\nX-Merge-Type: dict(no_replace)+list()\n\n"+two), want: map[string]string{"/one": "first"}},
		"merging asked for in the text":   {data: multi("Content-Type: text/cloud-config\n\n"+one, "Content-Type: text/cloud-config\n\n"+two+"merge_how: list(append)+dict()\n"), want: map[string]string{"/one": "first", "/two": "second"}},
		"kinds by the first line":         {data: multi("Content-Type: text/plain\n\n"+one, "\n#!/bin/sh\n"), want: map[string]string{"/one": "first"}},
		"base64 in a part":                {data: multi("Content-Type: text/cloud-config\nContent-Transfer-Encoding: base64\n\n" + encoded(one)), want: map[string]string{"/one": "first"}},
		"quoted-printable":                {data: multi("Content-Type: text/cloud-config\nContent-Transfer-Encoding: quoted-printable\n\n" + strings.ReplaceAll(one, ":", "=3A")), want: map[string]string{"/one": "first"}},
		"a multipart in another":          {data: multi("Content-Type: multipart/mixed; boundary=inner\n\n--inner\nContent-Type: text/cloud-config\n\n" + one + "\n--inner--"), want: map[string]string{"/one": "first"}},
		"an archive":                      {data: "#cloud-config-archive\n- type: text/cloud-config\n  content: |\n    " + strings.ReplaceAll(one, "\n", "\n    ") + "\n- '#!/bin/sh'\n", problem: "decode archive"},
		"an archive of objects":           {data: "#cloud-config-archive\n- content: |\n    " + strings.TrimSpace(strings.ReplaceAll(one, "\n", "\n    ")) + "\n", want: map[string]string{"/one": "first"}},
		"appending to a file":             {data: "#cloud-config\nwrite_files:\n- {path: /a, content: x}\n- {path: /a, content: z, append: true}\n", want: map[string]string{"/a": "xz"}},
		"writing a file twice":            {data: "#cloud-config\nwrite_files:\n- {path: /a, content: x}\n- {path: /a, content: z}\n", want: map[string]string{"/a": "z"}},
		"text that is no YAML":            {data: "#cloud-config\n: [\n", problem: "cloud-config 1"},
		"base64 that is none":             {data: "#cloud-config\nwrite_files: [{path: /a, encoding: b64, content: '%'}]\n", problem: "file /a"},
		"a multipart that breaks off":     {data: "Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/cloud-config\n\n#cloud", problem: "decode part"},
		"compressed data that breaks off": {data: compressed(t, one)[:20], problem: "decompress"},
	}
	tests["encodings"] = func() struct {
		data    string
		want    map[string]string
		problem string
	} {
		tc := tests["encodings"]
		tc.want["/bin"] = "G"
		return tc
	}()
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, err := userdata.Files([]byte(tc.data))
			if tc.problem != "" {
				require.ErrorContains(t, err, tc.problem)
				return
			}
			require.NoError(t, err)
			paths := map[string]bool{}
			for _, file := range files {
				paths[file.Path] = true
			}
			assert.Len(t, paths, len(tc.want))
			for path, want := range tc.want {
				content, ok := userdata.Find(files, path)
				assert.True(t, ok, path)
				assert.Equal(t, want, string(content), path)
			}
		})
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint32{
		`"0600"`: 0o600, `'0o755'`: 0o755, "0640": 0o640, "416": 0o640, `""`: 0o644, "null": 0o644, "rw": 0o644, "99999999": 0o644, "[1]": 0o644,
	} {
		files, err := userdata.Files([]byte("#cloud-config\nwrite_files: [{path: /a, permissions: " + text + "}]\n"))
		require.NoError(t, err, text)
		assert.Equal(t, want, files[0].Mode, text)
	}
}

func TestDepthIsLimited(t *testing.T) {
	t.Parallel()
	data := one
	for depth := range 12 {
		boundary := fmt.Sprintf("=b%02d=", depth)
		data = strings.ReplaceAll(multi("Content-Type: text/x-not-multipart\n\n"+data), "==b==", boundary)
	}
	_, err := userdata.Files([]byte(data))
	require.ErrorContains(t, err, "too deep")
}

func FuzzFiles(f *testing.F) {
	f.Add([]byte(one))
	f.Add([]byte(multi("Content-Type: text/cloud-config\n"+appending+"\n"+one, "Content-Type: text/cloud-config\n\n"+two)))
	f.Add([]byte("#cloud-config-archive\n- {content: x}\n"))
	f.Add([]byte(compressed(f, one)))
	f.Fuzz(func(t *testing.T, data []byte) {
		files, err := userdata.Files(data)
		if err != nil {
			assert.ErrorContains(t, err, "user data")
			return
		}
		for _, file := range files {
			_, ok := userdata.Find(files, file.Path)
			assert.True(t, ok)
		}
	})
}
