// SPDX-License-Identifier: Apache-2.0

package nat_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/test/swarm"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/store"
	"github.com/streembit/edge/transport/transporttest"
)

// asMember is the environment variable that makes this program a member, in its own namespace.
const asMember = "STREEMBIT_NAT_MEMBER"

func TestMain(m *testing.M) {
	if text := os.Getenv(asMember); text != "" {
		if err := runMember(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil { // these tests wait more than they work
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	swarm.Main(m)
}

// role is what a member process is told.
type role struct {
	Key, Fleet, Store string // files, and a hub's folder
	Listen, Announce  []string
	Device            bool // reachable, and answers sessions with what it is sent
	MDNS              bool // found on the local network, and finds there
	KeepAlive         time.Duration
}

// order is one line on a member's standard input, answer the line that comes back.
type order struct {
	Do    string  // reach, upgrade, echo
	To    edge.ID //
	Bytes int     // of an echo
}

type answer struct {
	Route   p2p.Route
	Steps   []string
	Relayed bool // an echo's stream
	Took    time.Duration
	Err     string
}

func runMember(text string) error {
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	key, err := fleet.LoadKey(r.Key)
	if err != nil {
		return err
	}
	f, err := fleet.Load(r.Fleet, journal.FleetID{})
	if err != nil {
		return err
	}
	o := p2p.Options{Signer: key, Fleet: func() *fleet.Fleet { return f }, Listen: r.Listen, Announce: r.Announce, Reachable: r.Device, MDNS: r.MDNS, KeepAlive: r.KeepAlive}
	if r.Store != "" {
		s, err := store.Open(context.Background(), r.Store, store.Options{Fleet: o.Fleet, Self: key.ID()})
		if err != nil {
			return err
		}
		o.Store = s
	}
	if r.Device {
		o.Direct = echoServer{}
	}
	n, err := p2p.New(context.Background(), o)
	if err != nil {
		return err
	}
	if err := n.Bootstrap(context.Background()); err != nil && !r.MDNS { // who is found on the local network needs no hub
		return err
	}
	fmt.Println(`{}`) // ready
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var o order
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			return err
		}
		line, err := json.Marshal(obey(n, o))
		if err != nil {
			return err
		}
		fmt.Printf("%s\n", line)
	}
	return n.Close()
}

func obey(n *p2p.Node, o order) (a answer) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var err error
	began := time.Now()
	switch o.Do {
	case "relays":
		for _, id := range n.Relays() {
			a.Steps = append(a.Steps, id.String())
		}
	case "reach":
		a.Route, err = n.Reach(ctx, o.To)
		for _, s := range a.Route.Steps {
			a.Steps = append(a.Steps, fmt.Sprintf("%s %v: %v", s.Way, s.Tried, s.Err))
		}
		a.Route.Steps = nil // errors do not travel
	case "upgrade":
		var direct bool
		if a.Route, direct = n.Upgrade(ctx, o.To); !direct {
			err = errors.New("still relayed")
		}
	case "echo":
		a.Relayed, err = echo(ctx, n, o)
	}
	a.Took = time.Since(began)
	if err != nil {
		a.Err = err.Error()
	}
	return a
}

// echo sends bytes over a session's stream and compares what comes back.
func echo(ctx context.Context, n *p2p.Node, o order) (relayed bool, err error) {
	s, path, err := n.Direct(ctx, o.To)
	if err != nil {
		return false, err
	}
	defer context.AfterFunc(ctx, func() { _ = s.Close() })()
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(s, io.LimitReader(zeros{}, int64(o.Bytes)))
		sent <- err
	}()
	_, err = io.CopyN(io.Discard, s, int64(o.Bytes))
	return path.Relayed, errors.Join(err, <-sent, s.Close())
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

type echoServer struct{}

func (echoServer) Serve(_ context.Context, s io.ReadWriteCloser, _ edge.ID) error {
	_, err := io.Copy(s, s)
	return errors.Join(err, s.Close())
}

func (echoServer) Review() {}

// member is a process in a namespace.
type member struct {
	t   *testing.T
	id  edge.ID
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	log *strings.Builder
}

func (l *lab) start(name string, id edge.ID, r role) *member {
	l.t.Helper()
	text, err := json.Marshal(r)
	if err != nil {
		l.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	m := &member{t: l.t, id: id, log: &strings.Builder{}}
	m.cmd = exec.Command("ip", "netns", "exec", l.ns(name), self)
	m.cmd.Env = append(os.Environ(), asMember+"="+string(text))
	m.cmd.Stderr = m.log
	if m.in, err = m.cmd.StdinPipe(); err != nil {
		l.t.Fatal(err)
	}
	out, err := m.cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	m.out = bufio.NewReader(out)
	if err := m.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(m.stop)
	m.read()
	return m
}

func (m *member) stop() {
	_ = m.in.Close()
	done := make(chan struct{})
	go func() { _ = m.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(transporttest.Limit):
		_ = m.cmd.Process.Kill()
		<-done
	}
	if m.t.Failed() && m.log.Len() > 0 {
		m.t.Logf("standard error of a member: %s", m.log)
	}
}

// signal stops the member's process, or has it go on.
func (m *member) signal(s syscall.Signal) {
	m.t.Helper()
	check(m.t, m.cmd.Process.Signal(s)) // ip netns exec has become the member
}

func (m *member) read() (a answer) {
	m.t.Helper()
	line, err := m.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &a)
	}
	if err != nil {
		m.t.Fatalf("a member ended: %v: %s", err, m.log)
	}
	return a
}

func (m *member) do(o order) answer {
	m.t.Helper()
	line, err := json.Marshal(o)
	if err != nil {
		m.t.Fatal(err)
	}
	if _, err := m.in.Write(append(line, '\n')); err != nil {
		m.t.Fatal(err)
	}
	return m.read()
}
