// SPDX-License-Identifier: Apache-2.0

// Command streembit is Streembit edge for people and servers: found a fleet, enrol members, pull readings, collect them
// into a database, and see it all work on one machine (streembit demo). Boards run streembitd.
//
// Results go to standard output and everything else to standard error. Which error ends it with which exit code: exit.go.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() { start(newApp()) }

// start runs the program and ends the process.
func start(a *app) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := withDocs(newRoot(a)).ExecuteContext(ctx)
	stop()
	os.Exit(int(outcome().Report(os.Stderr, err)))
}
