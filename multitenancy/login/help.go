// SPDX-License-Identifier: Apache-2.0

package login

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	usage = "Usage: kubectl-openstack [FLAG] -user=<USERNAME> -password=<PASSWORD> -project=<PROJECT>\n\nOptions:\n"
	// more is what the options of the user guide do not say.
	more = `
A password on the command line can be seen by others on the same machine. Without -password it comes from
-password-stdin, OS_PASSWORD, clouds.yaml (OS_CLOUD), or it is asked for.

-project=A,B or several -project configure several projects. kubectl openstack is the same program.

Exit codes: 2 usage, 3 wrong user or password, 4 no such project or no role in it, 5 an entry of the kubeconfig is
not this program's (see -force), 6 network or certificate, 7 the kubeconfig cannot be read or written.
`
)

// help prints what a command can do.
func (a *App) help(of command) error {
	var text strings.Builder
	all := of.options(&options{})
	if of.name != "login" {
		fmt.Fprintf(&text, "Usage: kubectl-openstack %s [FLAG]%s\n\n%s%s.\n", of.name, of.argument(), strings.ToUpper(of.summary[:1]), of.summary[1:])
		if len(all) > 0 {
			text.WriteString("\nOptions:\n")
		}
		describe(&text, all)
		_, err := io.WriteString(a.Out, text.String())
		return err
	}
	text.WriteString(usage)
	describe(&text, slices.DeleteFunc(slices.Clone(all), func(o option) bool { return !o.first }))
	text.WriteString("\nMore options:\n")
	describe(&text, slices.DeleteFunc(slices.Clone(all), func(o option) bool { return o.first }))
	text.WriteString("\nCommands:\n")
	for _, one := range commands() {
		fmt.Fprintf(&text, "  %-12s%s\n", one.name, one.summary)
	}
	text.WriteString(more)
	_, err := io.WriteString(a.Out, text.String())
	return err
}

func (c command) argument() string {
	if c.name == "completion" {
		return " bash|zsh|fish"
	}
	return ""
}

func describe(into *strings.Builder, all []option) {
	for _, one := range all {
		fmt.Fprintf(into, "  -%s\n        %s\n", strings.TrimSpace(one.name+" "+one.argument), one.help)
	}
}
