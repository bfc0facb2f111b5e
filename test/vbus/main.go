// SPDX-License-Identifier: Apache-2.0

// Command vbus is an I²C adapter with sensors on it, made of nothing: it plugs the chip models of hal/sim into the kernel as a USB
// adapter (i2c-tiny-usb over USB/IP). The kernel makes a real bus of it, /dev/i2c-N, on which programs and the kernel's own drivers find
// the chips. For tests, and to try a gateway without sensors on any Linux machine whose kernel has the modules.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/streembit/edge/hal/sim"
)

const usage = `usage: vbus [-fixed] [-seed N] [-log FILE]

Plugs an I²C adapter with simulated sensors into this machine's kernel and prints the bus that it became, until Ctrl-C.
As root; before that: modprobe -a vhci-hcd i2c-tiny-usb i2c-dev

`

func main() {
	fixed := flag.Bool("fixed", false, "the chips measure constant values, not the simulated weather")
	seed := flag.Uint64("seed", 1, "of the simulated weather")
	logFile := flag.String("log", "", "file that gets each transaction: address, written bytes, read bytes")
	flag.Usage = func() {
		fmt.Fprint(flag.CommandLine.Output(), usage)
		flag.PrintDefaults()
		fmt.Fprint(flag.CommandLine.Output(), "\nWhile it runs it takes commands, one a line:\n"+controlHelp)
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *fixed, *seed, *logFile)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run plugs the adapter in and obeys the commands on stdin until ctx ends. The end of stdin does not end it, so that it can run in the background.
func run(ctx context.Context, fixed bool, seed uint64, logFile string) (err error) {
	v := &values{weather: sim.Weather{Seed: seed}, fixed: map[string]float64{}}
	if fixed {
		v.fixed = usual()
	}
	bus := sim.NewBus("vbus")
	populate(bus, time.Now, v)
	s := &session{bus: bus, record: &recorder{bus: bus, log: io.Discard}, values: v}
	if logFile != "" {
		f, err := os.Create(logFile)
		if err != nil {
			return fmt.Errorf("vbus: making the log: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		s.record.log = f
	}
	file, err := s.plug()
	if err != nil {
		return err
	}
	fmt.Println(file)
	ended := make(chan error, 1)
	go func() { ended <- s.run(os.Stdin, os.Stdout) }() // a read of stdin cannot be interrupted: the process's end ends it
	select {
	case err = <-ended:
		if err == nil {
			<-ctx.Done()
		}
		return errors.Join(err, s.unplug())
	case <-ctx.Done(): // the kernel unplugs what a process leaves behind
		return nil
	}
}
