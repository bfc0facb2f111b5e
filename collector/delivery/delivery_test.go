// SPDX-License-Identifier: Apache-2.0

package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/delivery"
	"github.com/streembit/edge/collector/sinktest"
	"github.com/streembit/edge/journal"
)

// desk is a server in memory.
type desk struct {
	mu   sync.Mutex
	got  []string // ids, in order
	sent int      // calls of Send
	fail func(p *delivery.Parcel) error
}

func (d *desk) Send(_ context.Context, p delivery.Parcel) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sent++
	if d.fail != nil {
		if err := d.fail(&p); err != nil {
			return err
		}
	}
	for i := range p.Rows {
		d.got = append(d.got, p.RowID(&p.Rows[i])+"@"+fmt.Sprint(p.Rows[i].At.Wall))
	}
	return nil
}

func (d *desk) Ping(context.Context) error { return nil }
func (d *desk) Close() error               { return nil }

func open(t testing.TB, path string, d *desk, o delivery.Options) *delivery.Sink {
	t.Helper()
	store, err := delivery.OpenStore(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := delivery.New(t.Context(), store, d, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() }) // the test may have closed it
	return s
}

func batch(from, to uint64, per int) collector.Batch {
	return collector.Batch{Chain: sinktest.Chain(1, 1), Name: "roof", From: from, To: to, Mark: &journal.Link{Seq: to}, Readings: sinktest.Rows(from, to, per), Received: time.Now()}
}

// refuses makes a desk that refuses parcels with one of these places (seq, index).
func refuses(bad ...[2]int) func(*delivery.Parcel) error {
	return func(p *delivery.Parcel) error {
		for i := range p.Rows {
			for _, b := range bad {
				if int(p.Rows[i].Seq) == b[0] && p.Rows[i].Index == b[1] {
					return fmt.Errorf("%w: %v", delivery.ErrRefused, b)
				}
			}
		}
		return nil
	}
}

// TestPoison: the first reading that is to blame is named, wherever it is, and nothing is committed.
func TestPoison(t *testing.T) {
	for _, bad := range [][2]int{{1, 0}, {1, 1}, {3, 4}, {7, 9}} {
		d := &desk{}
		s := open(t, filepath.Join(t.TempDir(), "c.db"), d, delivery.Options{Rows: 16})
		if err := s.Write(t.Context(), batch(0, 0, 10)); err != nil {
			t.Fatal(err)
		}
		d.fail = refuses(bad, [2]int{7, 9})
		err := s.Write(t.Context(), batch(1, 7, 10))
		var p *collector.PoisonError
		if !errors.As(err, &p) || int(p.Seq) != bad[0] || p.Index != bad[1] {
			t.Errorf("%v: %v", bad, err)
		}
		if m, err := s.Marks(t.Context()); err != nil || m[sinktest.Chain(1, 1)].Link.Seq != 0 {
			t.Errorf("%v: marks %v, %v", bad, m, err)
		}
	}
}

// TestRefusesEverything: a server that has never taken anything is set up wrongly; no reading is blamed, and none is set aside. One that
// takes others at the same time shows which is to blame, also as the first of all.
func TestRefusesEverything(t *testing.T) {
	d := &desk{fail: func(*delivery.Parcel) error { return delivery.ErrRefused }}
	s := open(t, filepath.Join(t.TempDir(), "c.db"), d, delivery.Options{})
	if err := s.Write(t.Context(), batch(0, 3, 5)); err == nil || errors.Is(err, collector.ErrPoison) || !strings.Contains(err.Error(), "check its address") {
		t.Errorf("%v", err)
	}
	d.fail = refuses([2]int{0, 0})
	var p *collector.PoisonError
	if err := s.Write(t.Context(), batch(0, 3, 5)); !errors.As(err, &p) || p.Seq != 0 || p.Index != 0 {
		t.Errorf("%v", err)
	}
}

// TestRetry: a server that is away is asked again, ever less often, and a write gives up after its time with the reason.
func TestRetry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.db")
	away := errors.New("away")
	d := &desk{fail: func(*delivery.Parcel) error { return away }}
	s := open(t, path, d, delivery.Options{Retry: 300 * time.Millisecond})
	if err := s.Write(t.Context(), batch(0, 0, 1)); !errors.Is(err, away) || d.sent < 2 || d.sent > 4 {
		t.Errorf("%v after %d attempts", err, d.sent)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Write(ctx, batch(0, 0, 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	n := 0
	d.fail = func(*delivery.Parcel) error {
		if n++; n < 3 {
			return away
		}
		return nil
	}
	if err := s.Write(t.Context(), batch(0, 0, 1)); err != nil {
		t.Error(err)
	}
}

// TestHold: readings without a time wait over a restart, and come once, with the time that a clock note proves, also one of another chain.
func TestHold(t *testing.T) {
	path, d := filepath.Join(t.TempDir(), "c.db"), &desk{}
	opt := delivery.Options{Hold: true, Idempotence: true}
	s := open(t, path, d, opt)
	b := batch(0, 0, 3)
	for i := range b.Readings {
		b.Readings[i].At.Wall, b.Readings[i].Boot = 0, journal.BootID{byte(1 + i/2)} // two of one boot, one of another
	}
	if err := errors.Join(s.Write(t.Context(), b), s.Close()); err != nil || len(d.got) != 0 {
		t.Fatal(err, d.got)
	}
	s = open(t, path, d, opt)
	other := batch(0, 0, 0)
	other.Chain = sinktest.Chain(1, 2)
	other.Notes = []collector.Note{{Clock: &journal.ClockNote{Boot: journal.BootID{1}, Mono: 10, Wall: 1_700_000_000_010}}}
	d.fail = func(*delivery.Parcel) error { return errors.New("away") }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Write(ctx, other); err == nil {
		t.Error("the server is away")
	}
	d.fail = nil
	if err := s.Write(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(d.got, " "); strings.Count(got, "@") != 2 || !strings.HasSuffix(got, "/0/1@1700000000001") {
		t.Errorf("%s", got)
	}
	if err := s.Write(t.Context(), batch(1, 1, 1)); err != nil || len(d.got) != 3 {
		t.Errorf("%v: %v", err, d.got)
	}
}

// TestReset: a chain that is reset comes again, whole, under the same ids; another one does not.
func TestReset(t *testing.T) {
	d := &desk{}
	s := open(t, filepath.Join(t.TempDir(), "c.db"), d, delivery.Options{})
	b, other := batch(0, 3, 2), batch(0, 0, 1)
	other.Chain = sinktest.Chain(2, 1)
	b.Readings, b.Gaps = b.Readings[:6], []collector.Gap{{First: 3, Last: 3, Reason: "lost", Found: time.Now()}}
	if err := errors.Join(s.Write(t.Context(), b), s.Write(t.Context(), other), s.Reset(t.Context(), b.Chain)); err != nil {
		t.Fatal(err)
	}
	m, err := s.Marks(t.Context())
	if err != nil || m[b.Chain].Link != nil || len(m[b.Chain].Gaps) != 0 || m[other.Chain].Link == nil {
		t.Errorf("%v, %v", m, err)
	}
	if err := errors.Join(s.Write(t.Context(), b), s.Write(t.Context(), other)); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(d.got, " "); len(d.got) != 13 || strings.Count(got, d.got[0]) != 2 {
		t.Errorf("%v", d.got)
	}
}

// TestPerSegment: a message never holds two segments, so that its id is the same in whatever batches they come.
func TestPerSegment(t *testing.T) {
	var ids []string
	d := &desk{fail: func(p *delivery.Parcel) error { ids = append(ids, p.ID()); return nil }}
	s := open(t, filepath.Join(t.TempDir(), "c.db"), d, delivery.Options{PerSegment: true, Rows: 4})
	if err := s.Write(t.Context(), batch(0, 1, 6)); err != nil {
		t.Fatal(err)
	}
	c := sinktest.Chain(1, 1).String()
	if got, want := strings.Join(ids, " "), c+"/0/0-0/3 "+c+"/0/4-0/5 "+c+"/1/0-1/3 "+c+"/1/4-1/5"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

// TestSenML: what a receiver gets is RFC 8428's resolved form with our labels.
func TestSenML(t *testing.T) {
	b := batch(0, 0, 2)
	b.Readings[1].At.Wall = 0
	pack, err := delivery.Parcel{Chain: b.Chain, Rows: b.Readings}.SenML()
	dev := b.Chain.Device.String()
	want := `[{"n":"` + dev + `/bme280-0/temperature","u":"Cel","v":0,"t":1700000000,"seq":0,"idx":0}
,{"n":"` + dev + `/bme280-0/temperature","u":"Cel","v":0.3333333333333333,"seq":0,"idx":1,"boot":"09000000000000000000000000000000","mono_ms":1}]`
	if err != nil || string(pack) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, pack, want)
	}
}

// TestPost: what each answer means.
func TestPost(t *testing.T) {
	var status int
	var after string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", after)
		w.WriteHeader(status)
		_, _ = w.Write([]byte(strings.Repeat("x", 5000)))
	}))
	defer srv.Close()
	for _, c := range []struct {
		status  int
		after   string
		refused bool
		later   time.Duration
	}{{200, "", false, 0}, {202, "", false, 0}, {400, "", true, 0}, {413, "", true, 0}, {422, "", true, 0}, {401, "", false, 0}, {404, "", false, 0},
		{429, "7", false, 7 * time.Second}, {503, "99999999", false, time.Hour}, {500, "soon", false, 0}} {
		status, after = c.status, c.after
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = delivery.Post(srv.Client(), req)
		if (err == nil) != (c.status < 300) || errors.Is(err, delivery.ErrRefused) != c.refused {
			t.Errorf("%d: %v", c.status, err)
		}
		var e *delivery.StatusError
		if errors.As(err, &e) && (e.After() != c.later || len(e.Error()) > 700) {
			t.Errorf("%d: %v after %s", c.status, e, e.After())
		}
	}
}
