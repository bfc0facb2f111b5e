// SPDX-License-Identifier: Apache-2.0

package sysfs

import (
	"strconv"
	"strings"
)

// Segment turns a label into a segment of a quantity's name: "Package id 0" becomes "package-id-0". It has at most 32 characters, and is
// otherwise if nothing is left.
func Segment(label, otherwise string) string {
	var out strings.Builder
	for _, c := range strings.ToLower(strings.TrimSpace(label)) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			c = '-'
		}
		if out.Len() == 32 {
			break
		}
		out.WriteRune(c)
	}
	if strings.Trim(out.String(), "-") == "" {
		return otherwise
	}
	return out.String()
}

// Names keeps the names that are in use.
type Names map[string]bool

// Unique returns the name, or the name with the first free number from 2 on: "temperature.core.2".
func (n Names) Unique(name string) string {
	unique := name
	for i := 2; n[unique]; i++ {
		unique = name + "." + strconv.Itoa(i)
	}
	n[unique] = true
	return unique
}
