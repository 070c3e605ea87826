// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"github.com/cloudveneto/caas/multitenancy/login/tokencache"
)

// caller is the process that started this one. Its start goes with its number, where the system tells, since numbers
// come again.
func caller() tokencache.Caller {
	parent := os.Getppid()
	if parent <= 1 {
		return ""
	}
	return tokencache.Caller(strconv.Itoa(parent) + startOf(parent))
}

func startOf(process int) string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process))
	if err != nil {
		return ""
	}
	// The program's name may have blanks and brackets; the fields after it do not.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	const start = 19 // of the 22nd field
	if len(fields) <= start {
		return ""
	}
	return "-" + string(fields[start])
}
