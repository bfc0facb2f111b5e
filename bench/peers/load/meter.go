// SPDX-License-Identifier: Apache-2.0

package load

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// meter measures this process from start to stop.
type meter struct {
	r   Result
	err error

	began  time.Time
	cpu    time.Duration
	io     map[string]int64
	disk   int64
	done   bool
	tcp    [2]int64     // payload that the open sockets have sent and received
	onDisk func() int64 // bytes written to files so far, which are no bytes on sockets; nil = none
}

func (m *meter) start() {
	_ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // the peak starts anew, where the kernel lets it
	m.io = m.counters("/proc/self/io")
	if m.onDisk != nil {
		m.disk = m.onDisk()
	}
	m.tcp = m.payload()
	m.cpu = m.used()
	m.began = time.Now()
}

// acknowledged stops the clock; what follows until stop counts as CPU and bytes only.
func (m *meter) acknowledged() {
	m.r.Wall = time.Since(m.began)
	m.done = true
}

func (m *meter) stop(readings int) {
	if !m.done {
		m.acknowledged()
	}
	m.r.CPU = m.used() - m.cpu
	now := m.counters("/proc/self/io")
	if m.onDisk != nil {
		m.r.Disk = m.onDisk() - m.disk
	}
	m.r.Readings = readings
	tcp := m.payload()
	m.r.Out, m.r.In = tcp[0]-m.tcp[0], tcp[1]-m.tcp[1]
	m.r.Pages = now["write_bytes"] - m.io["write_bytes"]
	m.r.Peak = m.counters("/proc/self/status")["VmHWM"] * 1024
}

var tcpCounts = regexp.MustCompile(`bytes_(sent|received):(\d+)`)

// payload is what the TCP sockets of this process have sent and received, as the kernel counts it. All must stay open from start to stop.
func (m *meter) payload() (sum [2]int64) {
	out, err := exec.Command("ss", "-tinHp", "state", "established").Output()
	if err != nil {
		m.keep(fmt.Errorf("load: counting bytes of sockets, which needs ss of iproute2: %w", err))
		return sum
	}
	own, mine := fmt.Sprintf("pid=%d,", os.Getpid()), false
	for line := range strings.Lines(string(out)) {
		if line[0] != ' ' && line[0] != '\t' {
			mine = strings.Contains(line, own)
			continue
		}
		for _, c := range tcpCounts.FindAllStringSubmatch(line, -1) {
			if n, err := strconv.ParseInt(c[2], 10, 64); err == nil && mine {
				sum[map[string]int{"sent": 0, "received": 1}[c[1]]] += n
			}
		}
	}
	return sum
}

func (m *meter) used() time.Duration {
	var u syscall.Rusage
	m.keep(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// counters reads the numbers of a file of lines such as "name: 123 kB".
func (m *meter) counters(file string) map[string]int64 {
	raw, err := os.ReadFile(file)
	m.keep(err)
	out := map[string]int64{}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		if n, err := strconv.ParseInt(f[1], 10, 64); err == nil {
			out[strings.TrimSuffix(f[0], ":")] = n
		}
	}
	return out
}

func (m *meter) keep(err error) {
	if err != nil && m.err == nil {
		m.err = fmt.Errorf("load: measuring: %w", err)
	}
}
