// SPDX-License-Identifier: Apache-2.0

// Package e2e drives the built programs as a user would.
package e2e_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/test/swarm"
)

func TestMain(m *testing.M) { swarm.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// row is one line of streembit pull --format jsonl, as far as the tests look at it.
type row struct {
	Device string          `json:"device"`
	Sensor string          `json:"sensor"`
	Name   string          `json:"name"`
	ID     string          `json:"id"` // chain and seq and index
	Time   string          `json:"time"`
	Seq    uint64          `json:"seq"`
	V      json.RawMessage `json:"v"`
}

// pullAll pulls everything and returns the rows by id; it fails when an id comes twice.
func pullAll(t *testing.T, s *swarm.Swarm) (rows map[string]row, stderr string, code int) {
	t.Helper()
	out, stderr, code := s.Run("streembit", "pull", "all", "--state", s.Reader.State, "--format", "jsonl")
	rows = map[string]row{}
	for line := range strings.Lines(out) {
		var r row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("pull printed %q: %v", line, err)
		}
		if _, twice := rows[r.ID]; twice {
			t.Fatalf("pull printed %s twice", r.ID)
		}
		rows[r.ID] = r
	}
	return rows, stderr, code
}

// requireAll fails unless every published segment's readings were pulled, all of them.
func requireAll(t *testing.T, published []agent.ReceiptNote, rows map[string]row) {
	t.Helper()
	have := map[string]uint32{}
	for _, r := range rows {
		have[segmentOf(r)]++
	}
	if len(published) == 0 {
		t.Fatal("nothing was published: the test proves nothing")
	}
	for _, n := range published {
		if got := have[fmt.Sprintf("%s/%d", n.Chain, n.Seq)]; got != n.Readings {
			t.Errorf("%s seq %d: published %d readings, pulled %d", n.Chain, n.Seq, n.Readings, got)
		}
	}
}

// segmentOf cuts the index off a row's id: DEVICE/STREAM/INCARNATION/SEQ/INDEX.
func segmentOf(r row) string { return r.ID[:strings.LastIndexByte(r.ID, '/')] }

// The product in one test: the collector runs for the first time when the device and two of five hubs are gone and the
// device's folder is deleted.
func TestDeviceAndHubsGone(t *testing.T) {
	s := swarm.New(t, 5, swarm.FastSensors)
	s.Start(s.Hubs...)
	s.Start(s.Device)
	s.AwaitReceipts(8)
	s.Kill(s.Device)
	published := s.Receipts()
	s.Kill(s.Hubs[1])
	s.Kill(s.Hubs[3])
	must(t, os.RemoveAll(s.Device.State))

	rows, stderr, code := pullAll(t, s)
	if code != 0 {
		t.Fatalf("pull exited with %d: %s", code, stderr)
	}
	requireAll(t, published, rows)
}

// A device killed between the hubs' acks and its next head (heads go out at most once a minute) hides nothing: readers
// take the higher of head and what holders have.
func TestKilledBetweenAckAndHead(t *testing.T) {
	s := swarm.New(t, 3, swarm.FastSensors)
	s.Start(s.Hubs...)
	for range 3 {
		s.Start(s.Device)
		before := len(s.Receipts())
		s.AwaitReceipts(before + 4)
		s.Kill(s.Device)
	}
	published := s.Receipts()
	rows, stderr, code := pullAll(t, s)
	if code != 0 {
		t.Fatalf("pull exited with %d: %s", code, stderr)
	}
	requireAll(t, published, rows)
	chains := map[string]bool{}
	for _, n := range published {
		chains[n.Chain] = true
	}
	if len(chains) != 3 {
		t.Errorf("three lives of the device made %d chains: every unclean start must begin a new incarnation", len(chains))
	}
}

// With one hub of five in sight there is no majority, so nothing may count as published; when the others come, all does.
func TestMinorityAcknowledgesNothing(t *testing.T) {
	s := swarm.New(t, 5, swarm.FastSensors)
	s.Start(s.Hubs[0])
	s.Start(s.Device)
	swarm.WaitFor(t, "the device to be refused its majority while the one hub acks", func() error {
		v, err := s.Status(s.Device)
		if err != nil {
			return err
		}
		d := v["device"].(map[string]any)
		pending, _ := d["outbox"].(map[string]any)["pending"].(float64)
		if text, _ := d["error"].(string); pending < 5 || !strings.Contains(text, "1 of 5 hubs have it, 3 needed") {
			return fmt.Errorf("%v segments pending, error %q", pending, text)
		}
		return nil
	})
	if r := s.Receipts(); len(r) != 0 {
		t.Fatalf("published on one hub of five: %+v", r[0])
	}
	s.Start(s.Hubs[1:]...)
	s.AwaitReceipts(5)
}

// A hub whose quota is spent refuses and says why; the device goes on with the others and status names the reason.
func TestFullHub(t *testing.T) {
	s := swarm.New(t, 3, swarm.FastSensors)
	s.Configure(s.Hubs[0], "[store]\nquota = \"24KiB\"\n")
	s.Start(s.Hubs...)
	s.Start(s.Device)
	swarm.WaitFor(t, "the small hub to refuse", func() error {
		v, err := s.Status(s.Hubs[0])
		if err != nil {
			return err
		}
		if refused, _ := v["store"].(map[string]any)["refused"].(map[string]any); refused["hub is full"] == nil {
			return fmt.Errorf("refused: %v", refused)
		}
		return nil
	})
	before := len(s.Receipts())
	s.AwaitReceipts(before + 5)
	out, err := exec.Command(swarm.Program(t, "streembitd"), "status", "--state", s.Device.State).CombinedOutput()
	must(t, err)
	if !strings.Contains(string(out), "hub is full") {
		t.Errorf("status does not name the reason:\n%s", out)
	}
	s.Kill(s.Device)
	rows, stderr, code := pullAll(t, s)
	if code != 0 {
		t.Fatalf("pull exited with %d: %s", code, stderr)
	}
	requireAll(t, s.Receipts(), rows)
}

// A sensor on a bus that is not there is named in status; the others go on.
func TestMissingBus(t *testing.T) {
	s := swarm.New(t, 1, swarm.FastSensors+"[[sensor]]\nname = \"gone\"\ndriver = \"bme280\"\nbus = \"7\"\n")
	s.Start(s.Hubs...)
	s.Start(s.Device)
	s.AwaitReceipts(3)
	out, err := exec.Command(swarm.Program(t, "streembitd"), "status", "--state", s.Device.State).CombinedOutput()
	must(t, err)
	if !regexp.MustCompile(`gone .*I2C bus "7"`).Match(out) {
		t.Errorf("status does not say what is wrong with the sensor:\n%s", out)
	}
}

// Config mistakes are shown with their line and what to do.
func TestConfigMistakes(t *testing.T) {
	s := swarm.New(t, 1, "")
	for name, c := range map[string]struct{ extra, want string }{
		"unknown key":    {"batch_age = \"1s\"\n", "batch_age"},
		"unknown driver": {"[[sensor]]\nname = \"a\"\ndriver = \"bme999\"\n", "there is no driver \"bme999\": use one of"},
		"too fast":       {"[[sensor]]\nname = \"a\"\ndriver = \"bme280\"\ninterval = \"1ms\"\n", "at most one reading per"},
		"same name":      {"[[sensor]]\nname = \"a\"\ndriver = \"host\"\n[[sensor]]\nname = \"a\"\ndriver = \"host\"\n", "two sensors have this name"},
		"bad duration":   {"[[sensor]]\nname = \"a\"\ndriver = \"host\"\ninterval = \"10\"\n", "want for example"},
		"no stream":      {"[[sensor]]\nname = \"a\"\ndriver = \"host\"\nstream = \"fast\"\n", "add [[stream]]"},
	} {
		t.Run(name, func(t *testing.T) {
			s.Configure(s.Device, c.extra)
			out, err := exec.Command(swarm.Program(t, "streembitd"), "run", "--config", s.Device.Config).CombinedOutput()
			if code := exitCodeOf(err); code != 2 {
				t.Errorf("exit code %d, want 2", code)
			}
			if !strings.Contains(string(out), c.want) {
				t.Errorf("printed %s\nwant it to say %s", out, c.want)
			}
		})
	}
}

func exitCodeOf(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return 0
}
