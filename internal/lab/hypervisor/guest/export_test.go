// SPDX-License-Identifier: Apache-2.0

package guest

// MemoryInfo is memoryInfo, for tests.
func MemoryInfo(own string, mebibytes int) string { return memoryInfo(own, mebibytes) }

// Processors is processors as lists, for tests.
func Processors(online string, count int) (all, existing string) {
	a, r := processors(online, count)
	return list(a), list(r)
}

// Call is what parseCall reads, for tests.
type Call struct {
	Verb                       string
	Units, Properties          []string
	Now, Quiet, NoBlock, Value bool
}

// ParseCall is parseCall, for tests.
func ParseCall(args ...string) Call {
	c := parseCall(args)
	return Call{Verb: c.verb, Units: c.units, Properties: c.properties, Now: c.now, Quiet: c.quiet, NoBlock: c.noBlock, Value: c.value}
}
