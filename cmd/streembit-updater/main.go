// SPDX-License-Identifier: Apache-2.0

// Command streembit-updater installs updates of streembitd, as root, for an agent that may not write to its own program and is not trusted: it proves
// again what the agent hands over, tries it, and commits it or goes back. The units of systemd/ call it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/streembit/edge/boards"
	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/pinned"
	"github.com/streembit/edge/ota/slots"
)

const usage = `usage: streembit-updater [flags] COMMAND

  install VERSION FILE  put the first program in place
  pin FILE              trust this TUF root; without it, the root of the first update is trusted
  apply                 carry out the update that the agent handed over, or go on with its trial
  boot                  before the agent starts: count the start, go back if it was one too many
  ended                 after the agent ended: how, by systemd's SERVICE_RESULT, EXIT_CODE and EXIT_STATUS

flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stderr)
	stop()
	switch {
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "streembit-updater:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("wrong arguments")

// updater is what the flags say.
type updater struct {
	slots      *slots.Slots
	trust      pinned.Trust
	state      string
	unit       string
	times      slots.Times
	subcommand []string
}

func run(ctx context.Context, args []string, env func(string) string, stderr io.Writer) error {
	syscall.Umask(0o022) // everybody may run and read what is installed
	u, err := parse(args, stderr)
	if err != nil {
		return err
	}
	switch args := u.subcommand; {
	case len(args) == 3 && args[0] == "install":
		version, err := ota.ParseVersion(args[1])
		if err != nil {
			return err
		}
		return u.slots.Install(version, args[2])
	case len(args) == 2 && args[0] == "pin":
		root, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		return u.trust.Pin(root)
	case len(args) == 1 && args[0] == "apply":
		_, err := (&slots.Applier{Slots: u.slots, State: u.state, Times: u.times, Restart: u.restart}).Apply(ctx)
		return err
	case len(args) == 1 && args[0] == "boot":
		_, err := u.slots.Boot()
		return err
	case len(args) == 1 && args[0] == "ended":
		return u.slots.Ended(slots.EndOf(env("SERVICE_RESULT"), env("EXIT_CODE"), env("EXIT_STATUS")))
	}
	fmt.Fprintf(stderr, "streembit-updater: what is %q? See streembit-updater -help\n", u.subcommand)
	return errUsage
}

func parse(args []string, stderr io.Writer) (*updater, error) {
	u, times := &updater{}, slots.Usual()
	f := flag.NewFlagSet("streembit-updater", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprint(stderr, usage); f.PrintDefaults() }
	root := f.String("root", "/opt/streembit", "`folder` of the releases, the updater's own")
	f.StringVar(&u.state, "state", "/var/lib/streembit", "state `folder` of the agent")
	f.StringVar(&u.unit, "unit", "streembitd.service", "systemd `unit` of the agent")
	f.DurationVar(&times.Window, "window", times.Window, "for how long a new program must be healthy")
	f.DurationVar(&times.Deadline, "deadline", times.Deadline, "until when it must have been")
	if err := f.Parse(args); err != nil {
		return nil, errUsage
	}
	if times.Window <= 0 || times.Deadline <= times.Window {
		fmt.Fprintln(stderr, "streembit-updater: want a window above zero and a longer deadline")
		return nil, errUsage
	}
	board, _ := boards.Detect(os.DirFS("/"))
	u.times, u.subcommand, u.trust = times, f.Args(), pinned.Trust{Dir: filepath.Join(*root, "trust")}
	var err error
	u.slots, err = slots.Open(slots.Options{Root: *root, Machine: ota.Machine{Arch: runtime.GOARCH, Board: board.ID}, Prove: u.trust.Prove,
		Logger: slog.New(slog.NewTextHandler(stderr, nil))})
	return u, err
}

// restart has systemd end the agent and start it anew, without waiting: a program on trial may hang.
func (u *updater) restart(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "systemctl", "--no-block", "restart", u.unit).CombinedOutput(); err != nil {
		return fmt.Errorf("systemctl restart %s: %w: %s", u.unit, err, out)
	}
	return nil
}
