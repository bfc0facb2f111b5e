// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// socketLimit is how long QEMU may take for an answer; usually it is milliseconds.
const socketLimit = 30 * time.Second

func dial(t *testing.T, socket string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn, err := net.DialTimeout("unix", socket, socketLimit)
	must(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn, bufio.NewReader(conn)
}

// qmp sends one command to QEMU's control socket and returns what it returned, into result unless that is nil.
func qmp(t *testing.T, socket, execute string, arguments map[string]any, result any) {
	t.Helper()
	conn, in := dial(t, socket)
	defer func() { _ = conn.Close() }()
	must(t, conn.SetDeadline(time.Now().Add(socketLimit)))
	answers := json.NewDecoder(in)
	var greeting any
	must(t, answers.Decode(&greeting))
	for _, command := range []map[string]any{{"execute": "qmp_capabilities"}, {"execute": execute, "arguments": arguments}} {
		must(t, json.NewEncoder(conn).Encode(command))
		var answer struct {
			Return json.RawMessage `json:"return"`
			Error  any             `json:"error"`
		}
		for answer.Return == nil { // events come in between
			must(t, answers.Decode(&answer))
			if answer.Error != nil {
				t.Fatalf("QEMU: %s %v: %v", execute, arguments, answer.Error)
			}
		}
		if command["execute"] == execute && result != nil {
			must(t, json.Unmarshal(answer.Return, result))
		}
	}
}

// devicePath finds the path of a device of a type that the machine itself has.
func devicePath(t *testing.T, socket, kind string) string {
	t.Helper()
	const parent = "/machine/unattached"
	var children []struct{ Name, Type string }
	qmp(t, socket, "qom-list", map[string]any{"path": parent}, &children)
	for _, c := range children {
		if c.Type == "child<"+kind+">" {
			return parent + "/" + c.Name
		}
	}
	t.Fatalf("the machine has no %s", kind)
	return ""
}

// gpioChip is a GPIO chip as the wires at its pins see it, by QEMU's qtest protocol.
type gpioChip struct {
	t     *testing.T
	conn  net.Conn
	path  string
	oks   chan string
	wires chan string // "raise 2" when line 2 is driven high from now on, "lower 2"
}

// watchGPIO connects to a GPIO chip and notes from now on what it drives.
func watchGPIO(t *testing.T, socket, path string) *gpioChip {
	t.Helper()
	conn, in := dial(t, socket)
	g := &gpioChip{t: t, conn: conn, path: path, oks: make(chan string, 10), wires: make(chan string, 1000)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			if wire, ok := strings.CutPrefix(strings.TrimSpace(line), "IRQ "); ok {
				g.wires <- wire
			} else {
				g.oks <- strings.TrimSpace(line)
			}
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-ended })
	g.command("irq_intercept_out %s", path)
	return g
}

func (g *gpioChip) command(format string, args ...any) {
	g.t.Helper()
	_, err := fmt.Fprintf(g.conn, format+"\n", args...)
	must(g.t, err)
	select {
	case answer := <-g.oks:
		if answer != "OK" {
			g.t.Fatalf("QEMU: %s: %s", fmt.Sprintf(format, args...), answer)
		}
	case <-time.After(socketLimit):
		g.t.Fatalf("QEMU: %s: no answer", fmt.Sprintf(format, args...))
	}
}

// drive puts a level on an input.
func (g *gpioChip) drive(line, level int) {
	g.t.Helper()
	g.command("set_irq_in %s unnamed-gpio-in %d %d", g.path, line, level)
}

// expect waits for the next change that the chip drives.
func (g *gpioChip) expect(want string) {
	g.t.Helper()
	select {
	case got := <-g.wires:
		if got != want {
			g.t.Errorf("the wire says %q, want %q", got, want)
		}
	case <-time.After(socketLimit):
		g.t.Errorf("nothing on the wire, want %q", want)
	}
}
