// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

const shells = "bash, zsh and fish"

// completion prints what a shell needs to complete commands and flags.
func (a *App) completion(_ context.Context, o *options) error {
	if len(o.args) != 1 {
		return fail(CodeUsage, "completion for which shell? There are %s", shells)
	}
	var script string
	switch o.args[0] {
	case "bash":
		script = bash()
	case "zsh":
		script = zsh()
	case "fish":
		script = fish()
	default:
		return fail(CodeUsage, "there is no completion for %q; there are %s", o.args[0], shells)
	}
	_, err := io.WriteString(a.Out, script)
	return err
}

func commandNames() []string {
	var all []string
	for _, one := range commands() {
		all = append(all, one.name)
	}
	return all
}

func (c command) flagNames() []string {
	var all []string
	for _, one := range c.options(&options{}) {
		all = append(all, "-"+one.name)
	}
	slices.Sort(all)
	return append(all, "-help")
}

func bash() string {
	var cases strings.Builder
	for _, one := range commands() {
		words := strings.Join(one.flagNames(), " ")
		if one.name == "completion" {
			words = "bash zsh fish"
		}
		fmt.Fprintf(&cases, "    %s) words=%q ;;\n", one.name, words)
	}
	return fmt.Sprintf(`# bash completion of kubectl-openstack
_kubectl_openstack() {
  local word=${COMP_WORDS[COMP_CWORD]} command=login words i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
    %s) command=${COMP_WORDS[i]} ;;
    esac
  done
  case $command in
%s  esac
  if [[ $command == login && $word != -* ]]; then words="%s"; fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -o default -F _kubectl_openstack kubectl-openstack
`, strings.Join(commandNames(), " | "), cases.String(), strings.Join(commandNames(), " "))
}

func zsh() string {
	var cases strings.Builder
	for _, one := range commands() {
		var words []string
		for _, flag := range one.options(&options{}) {
			words = append(words, quoted("-"+flag.name+"["+brackets.Replace(flag.help)+"]"))
		}
		if one.name == "completion" {
			words = append(words, "'1:shell:(bash zsh fish)'")
		}
		fmt.Fprintf(&cases, "    %s) _arguments %s ;;\n", one.name, strings.Join(append(words, "'-help[show the help]'"), " "))
	}
	var described []string
	for _, one := range commands() {
		described = append(described, quoted(one.name+":"+one.summary))
	}
	return fmt.Sprintf(`#compdef kubectl-openstack
_kubectl_openstack() {
  local command=login
  local -a commands=(%s)
  if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
    _describe command commands
    return
  fi
  if [[ $words[2] != -* ]]; then
    command=$words[2]
    shift words
    (( CURRENT-- ))
  fi
  case $command in
%s  esac
}
if [[ $funcstack[1] == _kubectl_openstack ]]; then _kubectl_openstack "$@"; else compdef _kubectl_openstack kubectl-openstack; fi
`, strings.Join(described, " "), cases.String())
}

// brackets are what zsh takes for the end of a description.
var brackets = strings.NewReplacer("[", "(", "]", ")", ":", " ")

func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

func fish() string {
	var script strings.Builder
	script.WriteString("# fish completion of kubectl-openstack\n")
	all := strings.Join(commandNames(), " ")
	for _, one := range commands() {
		fmt.Fprintf(&script, "complete -c kubectl-openstack -f -n 'not __fish_seen_subcommand_from %s' -a %s -d %s\n", all, one.name, quoted(one.summary))
		when := "__fish_seen_subcommand_from " + one.name
		if one.name == "login" {
			when = "not __fish_seen_subcommand_from " + strings.Join(commandNames()[1:], " ")
		}
		for _, flag := range one.options(&options{}) {
			fmt.Fprintf(&script, "complete -c kubectl-openstack -n %s -o %s -d %s\n", quoted(when), flag.name, quoted(flag.help))
		}
	}
	script.WriteString("complete -c kubectl-openstack -f -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n")
	return script.String()
}
