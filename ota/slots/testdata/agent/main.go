// SPDX-License-Identifier: Apache-2.0

// Command agent stands for streembitd where updates are tested: a program that works, or one of the ways in which a release can be bad. Which one is
// decided when it is linked.
package main

import (
	"cmp"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/slots"
	"github.com/streembit/edge/systemd"
)

// Set by the linker.
var kind, version string

func main() {
	state := cmp.Or(os.Getenv("STATE_DIRECTORY"), os.Args[1]) // as systemd tells it, or a supervisor's caller
	switch kind {
	case "crash":
		fmt.Fprintln(os.Stderr, "panic: as planned")
		os.Exit(1)
	case "config":
		if _, err := os.ReadFile(state + "/renamed.toml"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
	case "stuck": // before it is ready, and deaf
		hang()
	}
	must(systemd.Ready())
	if kind == "hang" {
		hang()
	}
	must(os.WriteFile(state+"/ran", []byte(version), 0o600))
	h := slots.Health{Run: strconv.Itoa(os.Getpid()), Version: ota.Version(version), ID: "d1", Working: true, Sensors: []string{"s1"}, Hub: true}
	switch kind {
	case "hub":
		h.Hub = false
	case "sensors":
		h.Sensors = nil
	case "identity":
		h.ID = "d2"
	case "stranger":
		h.Version = "9.9.9"
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	began := time.Now()
	var eaten [][]byte
	for {
		h.Beat++
		if kind != "silent" {
			must(slots.WriteHealth(state, h))
		}
		must(systemd.Alive())
		select {
		case <-end:
			fmt.Fprintln(os.Stderr, "ends, having eaten", len(eaten)) // so that it is not collected
			return
		case <-time.After(20 * time.Millisecond):
		}
		switch {
		case kind == "dies" && time.Since(began) > 500*time.Millisecond:
			panic("as planned")
		case kind == "memory":
			chunk := make([]byte, 64<<20)
			for i := 0; i < len(chunk); i += 4096 {
				chunk[i] = 1
			}
			eaten = append(eaten, chunk)
		}
	}
}

// hang is no deadlock, which the runtime would notice.
func hang() {
	signal.Ignore(syscall.SIGTERM)
	for {
		time.Sleep(time.Hour)
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
