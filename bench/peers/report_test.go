// SPDX-License-Identifier: Apache-2.0

package peers_test

import (
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// report collects what the sections measure: runs under a name, from which come the costs, and goals.
type report struct {
	began time.Time
	load  string
	order []string
	runs  map[string][]run
	goals []goal
	notes []string
}

func newReport(b *testing.B) *report {
	b.Helper()
	return &report{began: time.Now(), load: loadAverage(), runs: map[string][]run{}}
}

func (r *report) add(name string, one run) {
	if !slices.Contains(r.order, name) {
		r.order = append(r.order, name)
	}
	r.runs[name] = append(r.runs[name], one)
}

func (r *report) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// skip says in the report, which nobody overlooks, what a section lacks, and leaves it.
func (r *report) skip(b *testing.B, format string, args ...any) {
	b.Helper()
	r.note("SKIPPED, %s: %s", b.Name(), fmt.Sprintf(format, args...))
	b.SkipNow()
}

// spread is a median and the range around it.
type spread struct{ mid, low, high float64 }

func spreadOf(all ...float64) spread {
	if len(all) == 0 {
		return spread{}
	}
	slices.Sort(all)
	return spread{all[len(all)/2], all[0], all[len(all)-1]}
}

func (s spread) String() string {
	if s.low == s.high {
		return figure(s.mid)
	}
	return fmt.Sprintf("%s [%s..%s]", figure(s.mid), figure(s.low), figure(s.high))
}

// of is the spread of one figure over the runs of a name.
func (r *report) of(name string, f func(run) float64) spread {
	var all []float64
	for _, one := range r.runs[name] {
		all = append(all, f(one))
	}
	return spreadOf(all...)
}

// The figures of a run.
func ownCPU(r run) float64    { return float64(r.CPU.Nanoseconds()) / 1e3 / float64(r.Readings) }
func theirCPU(r run) float64  { return float64(r.servers.Nanoseconds()) / 1e3 / float64(r.Readings) }
func totalCPU(r run) float64  { return ownCPU(r) + theirCPU(r) }
func perSecond(r run) float64 { return float64(r.Readings) / r.Wall.Seconds() }
func millis(r run) float64    { return float64(r.P50.Microseconds()) / 1e3 }

// goal is one line of the design's table: ours against a peer in the same run, or against a figure.
type goal struct {
	what, load string
	ours       spread
	peer       string // "" = the aim is in the figure's own unit
	theirs     spread
	unit       string
	aim        float64 // of ours/theirs, or of ours; 0 = reported only
	atLeast    bool    // the aim is a least one
}

func (r *report) judge(g goal) { r.goals = append(r.goals, g) }

// judged is what the aim is about.
func (g goal) judged() float64 {
	if g.peer == "" {
		return g.ours.mid
	}
	return g.ours.mid / g.theirs.mid
}

func (g goal) verdict() string {
	miss := g.judged() / g.aim
	if g.atLeast {
		miss = 1 / miss
	}
	switch {
	case g.aim == 0:
		return "reported"
	case miss <= 1:
		return "ok"
	}
	return fmt.Sprintf("missed by %.1f %%", (miss-1)*100)
}

func (g goal) cells() []string {
	sign, ratio, aim, peer := "≤", "", "", ""
	if g.atLeast {
		sign = "≥"
	}
	if g.peer != "" {
		ratio, peer = figure(g.judged())+"×", fmt.Sprintf("%s: %s", g.peer, g.theirs)
	}
	switch {
	case g.aim != 0 && g.peer != "":
		aim = fmt.Sprintf("%s %s×", sign, figure(g.aim))
	case g.aim != 0:
		aim = fmt.Sprintf("%s %s %s", sign, figure(g.aim), g.unit)
	}
	return []string{g.what, g.load, fmt.Sprintf("%s %s", g.ours, g.unit), peer, ratio, aim, g.verdict()}
}

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s, %s/%s, %d cores, %s, Go %s; load average %s at the start, %s at the end; took %s\n", r.began.UTC().Format("2006-01-02 15:04 UTC"),
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), processor(), strings.TrimPrefix(runtime.Version(), "go"), r.load, loadAverage(), time.Since(r.began).Round(time.Second))
	fmt.Fprintf(w, "Peers: %s\n", peerVersions())
	fmt.Fprintf(w, "Median [range] of the interleaved rounds. CPU, bytes and memory transfer to other machines; rates and latencies do not.\n")
	rows := [][]string{{"load", "client µs CPU", "servers µs CPU", "sum", "client's B out / in", "on its disk", "peak MB, client / servers", "copies", "readings/s"}}
	for _, name := range r.order {
		rows = append(rows, r.costs(name))
	}
	table(w, "Costs of a reading", rows)
	rows = [][]string{{"what", "load", "ours", "peer in this run", "ratio", "aim", ""}}
	for _, g := range r.goals {
		rows = append(rows, g.cells())
	}
	table(w, "Aims", rows)
	fmt.Fprintln(w)
	for _, n := range r.notes {
		fmt.Fprintln(w, "- "+n)
	}
}

// costs is one line: all but peaks and copies per reading.
func (r *report) costs(name string) []string {
	mid := func(f func(run) float64) string { return figure(r.of(name, f).mid) }
	copies := "–"
	if c := r.of(name, func(r run) float64 { return r.Copies }).mid; c > 0 {
		copies = figure(c)
	}
	return []string{name, mid(ownCPU), mid(theirCPU), r.of(name, totalCPU).String(),
		mid(func(r run) float64 { return float64(r.Out) / float64(r.Readings) }) + " / " + mid(func(r run) float64 { return float64(r.In) / float64(r.Readings) }),
		mid(func(r run) float64 { return float64(r.Disk) / float64(r.Readings) }),
		mid(func(r run) float64 { return float64(r.Peak) / 1e6 }) + " / " + mid(func(r run) float64 { return float64(r.peaks) / 1e6 }),
		copies, r.of(name, perSecond).String()}
}

// table prints rows as Markdown, the columns aligned; the first row is the heading, without another there is no table.
func table(w io.Writer, title string, rows [][]string) {
	if len(rows) < 2 {
		return
	}
	fmt.Fprintf(w, "\n%s\n\n", title)
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			fmt.Fprintf(w, "| %s%s ", cell, strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)))
		}
		fmt.Fprintln(w, "|")
		if n == 0 {
			for _, width := range widths {
				fmt.Fprint(w, "|", strings.Repeat("-", width+2))
			}
			fmt.Fprintln(w, "|")
		}
	}
}

// figure shows three digits that count, and thousands with a space.
func figure(v float64) string {
	switch {
	case v < 1000 && v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case v < 0.01:
		return fmt.Sprintf("%.2g", v)
	case v < 1:
		return strings.TrimRight(fmt.Sprintf("%.3f", v), "0")
	case v < 10:
		return fmt.Sprintf("%.2f", v)
	case v < 100:
		return fmt.Sprintf("%.1f", v)
	case v < 1000:
		return fmt.Sprintf("%.0f", v)
	}
	whole := fmt.Sprintf("%.0f", v)
	var groups []string
	for len(whole) > 3 {
		groups = append(groups, whole[len(whole)-3:])
		whole = whole[:len(whole)-3]
	}
	slices.Reverse(groups)
	return whole + " " + strings.Join(groups, " ")
}

func loadAverage() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Fields(string(raw))[0]
}

func processor() string {
	raw, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(raw)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
		}
	}
	return "processor unknown"
}

func peerVersions() string {
	all := []string{"mosquitto missing"}
	if p, err := mosquittoPath(); err == nil {
		out, _ := exec.Command(p, "-h").CombinedOutput() // it exits with an error, and says its version first
		first, _, _ := strings.Cut(string(out), "\n")
		all = []string{strings.Replace(first, " version", "", 1)}
	}
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Path}} {{.Version}}", "github.com/nats-io/nats-server/v2",
		"github.com/nats-io/nats.go", "github.com/eclipse/paho.mqtt.golang").Output()
	if err == nil {
		all = append(all, strings.Split(strings.TrimSpace(string(out)), "\n")...)
	}
	return strings.Join(all, ", ")
}
