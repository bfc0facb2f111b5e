// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// words is the other end of sd_notify(3): a socket on which the agent says how it is.
type words struct {
	path  string
	heard chan word
	conn  *net.UnixConn
	gone  chan struct{} // closed to end
	ended chan struct{}
}

type word struct {
	ready, alive bool
}

func listen() (*words, error) {
	dir, err := os.MkdirTemp("", "streembit-notify-*")
	if err != nil {
		return nil, fmt.Errorf("slots: listening to the agent: %w", err)
	}
	w := &words{path: filepath.Join(dir, "socket"), heard: make(chan word), gone: make(chan struct{}), ended: make(chan struct{})}
	w.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: w.path, Net: "unixgram"})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("slots: listening to the agent: %w", err), os.RemoveAll(dir))
	}
	go w.read()
	return w, nil
}

func (w *words) read() {
	defer close(w.ended)
	buf := make([]byte, 4096)
	for {
		n, err := w.conn.Read(buf)
		if err != nil {
			return // closed
		}
		said := word{}
		for line := range bytes.Lines(buf[:n]) {
			switch strings.TrimSpace(string(line)) {
			case "READY=1":
				said.ready = true
			case "WATCHDOG=1":
				said.alive = true
			}
		}
		select {
		case w.heard <- said:
		case <-w.gone:
			return
		}
	}
}

func (w *words) close() {
	close(w.gone)
	_ = w.conn.Close()
	<-w.ended
	_ = os.RemoveAll(filepath.Dir(w.path)) // a socket in a temporary folder
}

// resident returns the bytes of memory that a process has, 0 if it has ended (proc_pid_statm(5)).
func resident(pid int) int64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	var size, pages int64
	if _, scanErr := fmt.Sscan(string(data), &size, &pages); err != nil || scanErr != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}
