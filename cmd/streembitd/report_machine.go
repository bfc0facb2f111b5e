// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/streembit/edge/cmd/streembitd/doctor"
)

// The service's user and unit, as the package makes them.
const (
	serviceUser = "streembit"
	serviceUnit = "streembitd"
)

// seen is what the program sees of its machine.
func seen(cfg *config) []doctor.Finding {
	return doctor.Examine((&doctorFlags{root: "/", user: serviceUser, unit: serviceUnit}).machine(cfg))
}

// printMachine names the board, and what a person should look at.
func printMachine(out io.Writer, all []doctor.Finding) {
	for _, f := range all {
		switch {
		case f.Check == "board":
			fmt.Fprintf(out, "board: %s\n", f.What)
		case f.Level == doctor.Warning || f.Level == doctor.Fault:
			fmt.Fprintf(out, "%s: %s: %s; streembitd doctor says how to mend it\n", strings.ToUpper(string(f.Level)), f.Check, f.What)
		}
	}
}
