// SPDX-License-Identifier: Apache-2.0

package slots_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/streembit/edge/ota"
	"github.com/streembit/edge/ota/slots"
)

// TestUpdate_PowerCut_EverySyscall stops the machine before each call that changes the disk, while a program is staged, tried, and committed or gone back
// from, on a disk that has lost whatever it may lose by then. Then the machine starts, perhaps is cut off once more while it puts things in order, and
// starts again: one of the two programs must run, whole, and the next update must go through. The controls are a disk whose fsync does nothing, and
// an updater that does not sync folders; both must end without a program somewhere.
func TestUpdate_PowerCut_EverySyscall(t *testing.T) {
	cuts, _ := everyCut(t, "", rounds(), func(t *testing.T, what string) { t.Error(what) })
	t.Logf("%d power cuts", cuts)
}

// TestUpdate_PowerCut_Controls shows that the disk of these tests is one on which an updater can fail.
func TestUpdate_PowerCut_Controls(t *testing.T) {
	for _, lax := range []string{"files", "folders"} {
		cuts, bricks := everyCut(t, lax, 1, func(*testing.T, string) {})
		t.Logf("fsync of %s does nothing: %d of %d power cuts end without a good program or break a promise", lax, bricks, cuts)
		if bricks == 0 {
			t.Errorf("fsync of %s does nothing, and no power cut does harm: this disk shows nothing", lax)
		}
	}
}

// everyCut cuts each story off before each of its calls, and looks at so many disks that this may leave.
func everyCut(t *testing.T, lax string, disks int, wrong func(*testing.T, string)) (cuts, bricks int) {
	for _, s := range stories() {
		var calls []string
		t.Run(s.name, func(t *testing.T) { calls = s.play(t, newTrial(t, 0, lax)).calls })
		if len(calls) < 20 {
			t.Fatalf("%s: only %d calls", s.name, len(calls))
		}
		for at, call := range append(slices.Clone(calls), "the end") {
			for seed := range uint64(disks) {
				t.Run(fmt.Sprint(s.name, at+1), func(t *testing.T) {
					cuts++
					if what := s.play(t, newTrial(t, at+1, lax)).restart(t, seed); what != "" {
						bricks++
						wrong(t, fmt.Sprintf("%s, cut before call %d (%s), disk %d: %s", s.name, at+1, call, seed, what))
					}
				})
			}
		}
		t.Logf("%s: %d calls", s.name, len(calls))
	}
	return cuts, bricks
}

// rounds is how many different disks each cut leaves: 2, or what POWERCUTS says, for make soak.
func rounds() int {
	n, err := strconv.Atoi(os.Getenv("POWERCUTS"))
	if err != nil || n < 1 {
		return 2
	}
	return n
}

// story is an update from the old program to the new one.
type story struct {
	name string
	acts []func(*trial) error
}

func stories() []story {
	stage := func(tr *trial) (err error) {
		tr.staged, err = tr.w.slots.Stage(tr.w.t.Context(), tr.w.state)
		return err
	}
	flip := func(tr *trial) error { return tr.w.slots.Flip(tr.staged) }
	boot := func(tr *trial) error { _, err := tr.w.slots.Boot(); return err }
	died := func(tr *trial) error { return tr.w.slots.Ended(false, ota.ReasonCrashed, "exit 1") }
	commit := func(tr *trial) error {
		t, err := tr.w.slots.Trial()
		if err == nil {
			err = tr.w.slots.Commit(t)
		}
		tr.must = pick(err == nil, tr.fresh, tr.must)
		return err
	}
	back := func(tr *trial) error {
		t, err := tr.w.slots.Trial()
		if err == nil {
			err = tr.w.slots.Rollback(t, ota.ReasonSensors, "test")
		}
		tr.must = pick(err == nil, tr.old, tr.must)
		return err
	}
	flipped := func(tr *trial) error { tr.must = nil; return flip(tr) } // from here on, either may run
	return []story{
		{"committed", []func(*trial) error{stage, flipped, boot, died, boot, commit}},
		{"gone back", []func(*trial) error{stage, flipped, boot, back}},
		{"crashed three times", []func(*trial) error{stage, flipped, boot, died, boot, died, boot, died, boot}},
	}
}

func pick(first bool, a, b []byte) []byte {
	if first {
		return a
	}
	return b
}

// trial is one update on a disk that may be cut off.
type trial struct {
	w          *world
	disk       *lossy
	calls      []string
	at         int // stop before this call; 0 = never
	staged     *slots.Staged
	old, fresh []byte
	must       []byte // what has to run after a cut; nil: either
}

var errCut = errors.New("the power is off")

func newTrial(t *testing.T, at int, lax string) *trial {
	t.Helper()
	tr := &trial{w: newWorld(t), at: at, old: programOf("1.0.0", 1), fresh: programOf("2.0.0", 2)}
	tr.must = tr.old
	tr.w.handOver(artifact("2.0.0", tr.fresh), tr.fresh)
	tr.disk = newLossy(t, tr.w.root, lax)
	tr.w.before = func(call, path string) error {
		if tr.at > 0 && len(tr.calls) >= tr.at {
			return errCut
		}
		tr.disk.settle()
		tr.calls = append(tr.calls, call+" "+filepath.Base(path))
		if tr.at == len(tr.calls) {
			return errCut
		}
		tr.disk.announce(call, path)
		return nil
	}
	tr.w.open()
	return tr
}

func (s story) play(t *testing.T, tr *trial) *trial {
	t.Helper()
	for _, act := range s.acts {
		if err := act(tr); err != nil {
			if tr.at > 0 && len(tr.calls) >= tr.at {
				break
			}
			t.Fatalf("%s: %v", s.name, err)
		}
	}
	tr.disk.settle()
	return tr
}

// restart starts the machine with what its disk has kept, cutting it off once more while it does, and returns what is wrong then.
func (tr *trial) restart(t *testing.T, seed uint64) (bricked string) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, uint64(len(tr.calls))))
	w := &world{t: t, root: filepath.Join(scratch(t), "disk"), state: tr.w.state}
	tr.disk.left(rng, w.root)
	if what := tr.bare(w); what != "" {
		return "without the updater's help: " + what
	}
	again, n := newLossy(t, w.root, tr.disk.lax), 1+rng.IntN(12)
	w.before = func(call, path string) error {
		if n--; n <= 0 {
			return errCut
		}
		again.settle()
		again.announce(call, path)
		return nil
	}
	w.open()
	_, err := w.slots.Boot() // this one may be cut off
	if err != nil && n > 0 {
		return "the first start: " + err.Error()
	}
	again.settle()
	w.root, w.before = filepath.Join(scratch(t), "disk"), nil
	again.left(rng, w.root)
	if what := tr.bare(w); what != "" {
		return "without the updater's help, after the second cut: " + what
	}
	w.open()
	return tr.judge(w)
}

// bare looks at what is started if the updater itself cannot run: the link alone must lead to one of the two programs.
func (tr *trial) bare(w *world) string {
	data, err := os.ReadFile(filepath.Join(w.root, "current", slots.ProgramName))
	if err != nil {
		return err.Error()
	}
	if !bytes.Equal(data, tr.old) && !bytes.Equal(data, tr.fresh) {
		return fmt.Sprintf("neither program runs but %d bytes", len(data))
	}
	return ""
}

func (tr *trial) judge(w *world) string {
	path, err := w.slots.Boot()
	if err != nil {
		return "it does not start: " + err.Error()
	}
	data, err := os.ReadFile(path)
	info, statErr := os.Stat(path)
	if err := errors.Join(err, statErr); err != nil {
		return "there is no program: " + err.Error()
	}
	isOld, isNew := bytes.Equal(data, tr.old), bytes.Equal(data, tr.fresh)
	switch {
	case info.Mode()&0o111 == 0:
		return "the program may not be executed"
	case !isOld && !isNew:
		return fmt.Sprintf("neither program runs but %d bytes", len(data))
	case tr.must != nil && !bytes.Equal(data, tr.must):
		return fmt.Sprintf("%.14q runs, and it was said otherwise before", data)
	}
	if t, err := w.slots.Trial(); err != nil {
		if p, err := w.slots.Outcome(); err != nil || p.Stage == ota.Trying {
			return fmt.Sprintf("nothing is on trial any more, and the outcome is %s, %v", p.Stage, err)
		}
	} else {
		if err := w.slots.Commit(t); err != nil {
			return "the trial cannot be ended: " + err.Error()
		}
	}
	next := programOf("3.0.0", 3)
	if staged, err := w.stage("3.0.0", next); err != nil {
		return "the next update: " + err.Error()
	} else if err := w.slots.Flip(staged); err != nil {
		return "the next update: " + err.Error()
	}
	if !bytes.Equal(w.runs(), next) {
		return "the next update does not run"
	}
	return ""
}

// lossy knows what of a folder is on the disk for certain: the files that were synced, as they were then, and the names in folders that were synced.
// Of all that came later a power cut leaves what it likes: of each folder the synced names or those of now, of each file the synced bytes, those of now,
// their beginning, or none. That is less than any file system keeps.
type lossy struct {
	t      testing.TB
	root   string
	lax    string // "files": their fsync does nothing; "folders"
	files  map[uint64][]byte
	dirs   map[uint64][]entry
	held   map[uint64]*os.File // so that no inode is used twice
	synced func()              // what the announced call does, once it is over
}

type entry struct {
	name, target string // target of a link
	inode        uint64
	mode         os.FileMode
}

// newLossy begins with everything on the disk.
func newLossy(t testing.TB, root, lax string) *lossy {
	l := &lossy{t: t, root: root, lax: lax, files: map[uint64][]byte{}, dirs: map[uint64][]entry{}, held: map[uint64]*os.File{}}
	t.Cleanup(func() {
		for _, f := range l.held {
			_ = f.Close()
		}
	})
	check(t, filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			l.dirs[l.hold(path)] = l.list(path)
		case d.Type().IsRegular():
			l.files[l.hold(path)] = read(t, path)
		}
		return nil
	}))
	return l
}

// announce is told of a call that is about to be made.
func (l *lossy) announce(call, path string) {
	if call != "fsync" {
		return
	}
	info, err := os.Stat(path)
	check(l.t, err)
	inode := l.hold(path)
	if info.IsDir() && l.lax != "folders" {
		l.synced = func() { l.dirs[inode] = l.list(path) }
	} else if !info.IsDir() && l.lax != "files" {
		l.synced = func() { l.files[inode] = read(l.t, path) }
	}
}

// settle notes that the announced call was made.
func (l *lossy) settle() {
	if l.synced != nil {
		l.synced()
		l.synced = nil
	}
}

func (l *lossy) list(dir string) (out []entry) {
	all, err := os.ReadDir(dir)
	check(l.t, err)
	for _, e := range all {
		info, err := e.Info()
		check(l.t, err)
		n := entry{name: e.Name(), mode: info.Mode()}
		if info.Mode()&os.ModeSymlink != 0 {
			n.target, err = os.Readlink(filepath.Join(dir, e.Name()))
			check(l.t, err)
		} else {
			n.inode = l.hold(filepath.Join(dir, e.Name()))
		}
		out = append(out, n)
	}
	return out
}

// left writes what a power cut leaves to a folder.
func (l *lossy) left(rng *rand.Rand, to string) {
	l.t.Helper()
	present := map[uint64]string{}
	check(l.t, filepath.WalkDir(l.root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type()&os.ModeSymlink == 0 {
			present[l.hold(path)] = path
		}
		return err
	}))
	l.leftFolder(rng, l.hold(l.root), present, to)
}

func (l *lossy) leftFolder(rng *rand.Rand, inode uint64, present map[uint64]string, to string) {
	check(l.t, os.Mkdir(to, 0o755))
	names := l.dirs[inode]
	if path, is := present[inode]; is && rng.IntN(2) == 0 {
		names = l.list(path)
	}
	for _, e := range names {
		at := filepath.Join(to, e.name)
		switch {
		case e.target != "":
			check(l.t, os.Symlink(e.target, at))
		case e.mode.IsDir():
			l.leftFolder(rng, e.inode, present, at)
		default:
			check(l.t, os.WriteFile(at, l.leftFile(rng, e.inode), 0o600))
			check(l.t, os.Chmod(at, e.mode.Perm()))
		}
	}
}

func (l *lossy) leftFile(rng *rand.Rand, inode uint64) []byte {
	f := l.held[inode]
	info, err := f.Stat()
	check(l.t, err)
	now := make([]byte, info.Size())
	_, err = f.ReadAt(now, 0)
	check(l.t, err)
	synced, is := l.files[inode]
	switch n := rng.IntN(4); {
	case is && (n < 2 || bytes.Equal(synced, now)):
		return synced
	case n == 2:
		return now[:len(now)/2]
	case n == 3:
		return nil
	}
	return slices.Clone(now)
}
