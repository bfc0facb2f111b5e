// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/streembit/edge/collector/stdout"
	"github.com/streembit/edge/fleet"
)

// liveLine is a reading in JSON: the fields of streembit pull, where there is such a thing before a reading has been sealed and signed.
type liveLine struct {
	stdout.Reading
	Boot     string  `json:"boot,omitempty"`    // without a time: …
	Mono     *int64  `json:"mono_ms,omitempty"` // … since that boot
	Seq      *uint64 `json:"seq,omitempty"`     // of those from the hubs, as …
	Recv     string  `json:"recv"`
	Verified bool    `json:"verified,omitempty"` // … the device's signature, …
	ID       string  `json:"id,omitempty"`       // … and the identity
	Via      string  `json:"via"`
}

// liveLines writes a line for each reading, and what there is to say to standard error.
type liveLines struct {
	mu  sync.Mutex
	out *bufio.Writer
	err *os.File
}

func newLiveLines(a *app) *liveLines {
	return &liveLines{out: bufio.NewWriter(io.Writer(a.out)), err: a.err}
}

func (s *liveLines) readings(g fleet.Grant, via string, all []shownReading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	enc := json.NewEncoder(s.out)
	enc.SetEscapeHTML(false)
	recv := time.Now().UTC().Format(stdout.TimeForm)
	for i := range all {
		r := &all[i]
		l := liveLine{Reading: stdout.NewReading(g.Member, g.Name, &r.Reading), Seq: r.seq, Recv: recv, Verified: r.seq != nil, ID: r.id, Via: via}
		if l.Time == "" {
			l.Boot, l.Mono = r.boot.String(), &r.At.Mono
		}
		_ = enc.Encode(l) // who reads the pipe has gone: the signal of that ends the program
	}
	_ = s.out.Flush()
}

func (s *liveLines) say(g fleet.Grant, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.err, "%s %s\n", g.Name, fmt.Sprintf(format, args...))
}

func (s *liveLines) state(fleet.Grant, string) {}
func (s *liveLines) close()                    {}
