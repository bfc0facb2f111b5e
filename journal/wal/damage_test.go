// SPDX-License-Identifier: Apache-2.0

package wal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/streembit/edge/journal/wal"
)

// memDir returns a directory in memory where there is one that can prove a clean close, for the tests that open a log
// thousands of times: on a busy disk each would take many syncs' time.
func memDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "wal-test-") //nolint:usetesting // t.TempDir may be on a slow disk
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var rec wal.Recovery
	for range 2 {
		var l *wal.Log
		if l, rec, err = wal.Open(filepath.Join(dir, "try"), wal.Options{}, nil); err == nil {
			err = l.Close()
		}
		must(t, err)
	}
	if !rec.Clean {
		return t.TempDir()
	}
	return filepath.Join(dir, "log")
}

// build makes a closed log of several files in a new directory and returns it with its frames.
func build(t testing.TB, fileSize int64, sizes ...int) (string, []kept) {
	t.Helper()
	dir := memDir(t)
	l, _, _ := open(t, dir, wal.Options{FileSize: fileSize})
	var want []kept
	for i, n := range sizes {
		want = append(want, add(t, l, frame(i, n))...)
	}
	closeLog(t, l)
	return dir, want
}

// files returns the log files of dir in order.
func files(t testing.TB, dir string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(all) == 0 {
		t.Fatalf("no log files: %v", err)
	}
	return all
}

func number(path string) (no uint64) {
	_, _ = fmt.Sscanf(filepath.Base(path), "%016x.wal", &no) // 0, which no file has, for another name
	return no
}

// restore makes dir hold exactly the files of from, in place: the marker keeps the inode it was made with.
func restore(t testing.TB, dir string, from map[string][]byte) {
	t.Helper()
	for _, f := range files(t, dir) {
		if _, ok := from[f]; !ok {
			must(t, os.Remove(f))
		}
	}
	for f, b := range from {
		must(t, os.WriteFile(f, b, 0o600))
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func snapshot(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, f := range files(t, dir) {
		b, err := os.ReadFile(f)
		must(t, err)
		all[f] = b
	}
	return all
}

// TestTruncateEverywhere cuts a log at every byte: the frames before the cut are there, none is invented, appends go on.
func TestTruncateEverywhere(t *testing.T) {
	dir, want := build(t, 400, 1, 7, 120, 300, 2, 2, 2, 33, 600, 5, 64, 90)
	all, orig := files(t, dir), snapshot(t, dir)
	if len(all) < 4 {
		t.Fatalf("only %d files", len(all))
	}
	for i, cut := range all {
		for n := range len(orig[cut]) {
			state := map[string][]byte{cut: orig[cut][:n]}
			var intact []kept
			for _, f := range all[:i] {
				state[f] = orig[f]
			}
			for _, k := range want {
				if k.at.File < number(cut) || k.at.File == number(cut) && k.at.Off+8+int64(len(k.data)) <= int64(n) {
					intact = append(intact, k)
				}
			}
			restore(t, dir, state)
			what := fmt.Sprintf("%s cut to %d", filepath.Base(cut), n)
			l, rec, got := open(t, dir, wal.Options{FileSize: 400})
			same(t, what, got, intact)
			tail := int64(n)
			for _, k := range intact {
				if k.at.File == number(cut) {
					tail = int64(n) - k.at.Off - 8 - int64(len(k.data))
				}
			}
			if n >= 24 && tail == int64(n) {
				tail -= 24
			}
			if rec.Clean || rec.Dropped != tail || (rec.Reason != "") != (tail > 0 || n < 24) {
				t.Fatalf("%s: %+v, want %d dropped", what, rec, tail)
			}
			intact = append(intact, add(t, l, []byte("goes on"))...)
			closeLog(t, l)
			l, rec, got = open(t, dir, wal.Options{FileSize: 400})
			same(t, what+", reopened", got, intact)
			if !rec.Clean || rec.Dropped != 0 {
				t.Fatalf("%s, reopened: %+v", what, rec)
			}
			closeLog(t, l)
		}
	}
}

// TestFlipEverywhere flips a bit of every byte: only the frame that it hits is lost, whatever part of it was hit.
func TestFlipEverywhere(t *testing.T) {
	dir, want := build(t, 200, 1, 7, 60, 30, 50, 2, 90, 100, 40, 3)
	all, orig := files(t, dir), snapshot(t, dir)
	for _, hit := range all {
		for i := range orig[hit] {
			state := map[string][]byte{}
			for f, b := range orig {
				state[f] = bytes.Clone(b)
			}
			state[hit][i] ^= 1 << (i % 8)
			var intact []kept
			lost := int64(0)
			for _, k := range want {
				if end := k.at.Off + 8 + int64(len(k.data)); k.at.File == number(hit) && k.at.Off <= int64(i) && int64(i) < end {
					lost = end - k.at.Off
				} else {
					intact = append(intact, k)
				}
			}
			if i < 24 {
				lost = 24
			}
			restore(t, dir, state)
			what := fmt.Sprintf("%s byte %d flipped", filepath.Base(hit), i)
			l, rec, got := open(t, dir, wal.Options{FileSize: 200})
			same(t, what, got, intact)
			if rec.Clean || rec.Dropped != lost || rec.Reason == "" {
				t.Fatalf("%s: %+v, want %d dropped", what, rec, lost)
			}
			intact = append(intact, add(t, l, []byte("goes on"))...)
			same(t, what+", scanned", scan(t, l, wal.Pos{}), intact)
			closeLog(t, l)
			l, _, got = open(t, dir, wal.Options{FileSize: 200})
			same(t, what+", reopened", got, intact)
			closeLog(t, l)
		}
	}
}

// TestZeroTail is what ext4 may leave after a power cut: the file has its new length and zeros in it.
func TestZeroTail(t *testing.T) {
	dir, want := build(t, 0, 10, 20)
	f := files(t, dir)[0]
	b, err := os.ReadFile(f)
	must(t, err)
	must(t, os.WriteFile(f, append(b, make([]byte, 5000)...), 0o600))
	l, rec, got := open(t, dir, wal.Options{})
	same(t, "zero tail", got, want)
	if rec.Clean || rec.Dropped != 5000 {
		t.Fatalf("%+v", rec)
	}
	checkSize(t, dir, l.Size())
}

// TestDamageWhileOpen damages a frame under an open log: Read names it, Scan goes around it.
func TestDamageWhileOpen(t *testing.T) {
	dir := t.TempDir()
	l, _, _ := open(t, dir, wal.Options{})
	want := add(t, l, frame(1, 100), frame(2, 100), frame(3, 100))
	f, err := os.OpenFile(files(t, dir)[0], os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteAt([]byte{1, 2, 3}, want[1].at.Off+20)
	must(t, errors.Join(err, f.Close()))
	if _, err := l.Read(want[1].at); !errors.Is(err, wal.ErrCorrupt) {
		t.Errorf("read of a damaged frame: %v", err)
	}
	same(t, "scan", scan(t, l, wal.Pos{}), []kept{want[0], want[2]})
}

// TestShortWhileOpen: a file that lost its end while the log has it open is damaged, not a disk that fails: nobody must wait for it to get well.
func TestShortWhileOpen(t *testing.T) {
	dir := t.TempDir()
	l, _, _ := open(t, dir, wal.Options{})
	want := add(t, l, frame(1, 100), frame(2, 6000), frame(3, 100))
	for _, size := range []int64{want[2].at.Off + 50, want[2].at.Off + 3, want[1].at.Off + 4500, want[0].at.Off + 9} {
		must(t, os.Truncate(files(t, dir)[0], size))
		for _, k := range want {
			_, err := l.Read(k.at)
			if short := k.at.Off+8+int64(len(k.data)) > size; short != errors.Is(err, wal.ErrCorrupt) || !short && err != nil {
				t.Errorf("cut to %d bytes, frame of %d at %s: %v", size, len(k.data), k.at, err)
			}
		}
	}
}

// TestNotClean: what was not left by Close itself is never clean.
func TestNotClean(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, dir string) string{
		"a copy": func(t *testing.T, dir string) string {
			to := filepath.Join(t.TempDir(), "copy")
			must(t, os.CopyFS(to, os.DirFS(dir)))
			return to
		},
		"a restored backup": func(t *testing.T, dir string) string {
			backup := t.TempDir()
			must(t, os.CopyFS(backup, os.DirFS(dir)))
			must(t, os.RemoveAll(dir))
			must(t, os.CopyFS(dir, os.DirFS(backup)))
			return dir
		},
		"a marker of before": func(t *testing.T, dir string) string {
			old, err := os.ReadFile(filepath.Join(dir, "closed"))
			must(t, err)
			l, _, _ := open(t, dir, wal.Options{})
			add(t, l, []byte("more"))
			must(t, os.WriteFile(filepath.Join(dir, "closed"), old, 0o600))
			return dir // still open: Open below takes the lock of a copy
		},
		"a lost first file": func(t *testing.T, dir string) string {
			must(t, os.Remove(files(t, dir)[0]))
			return dir
		},
		"a lost middle file": func(t *testing.T, dir string) string {
			must(t, os.Remove(files(t, dir)[1]))
			return dir
		},
		"a lost last file": func(t *testing.T, dir string) string {
			all := files(t, dir)
			must(t, os.Remove(all[len(all)-1]))
			return dir
		},
		"no marker": func(t *testing.T, dir string) string {
			must(t, os.Remove(filepath.Join(dir, "closed")))
			return dir
		},
		"a broken marker": func(t *testing.T, dir string) string {
			must(t, os.Truncate(filepath.Join(dir, "closed"), 20))
			return dir
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := build(t, 100, 50, 50, 50, 50)
			dir = change(t, dir)
			l, rec, err := wal.Open(dir, wal.Options{}, nil)
			if errors.Is(err, wal.ErrLocked) {
				to := t.TempDir()
				must(t, os.CopyFS(to, os.DirFS(dir)))
				l, rec, err = wal.Open(to, wal.Options{}, nil)
			}
			must(t, err)
			defer l.Close()
			if rec.Clean {
				t.Errorf("clean: %+v", rec)
			}
			if name == "a lost middle file" && rec.Reason == "" {
				t.Error("the missing file is not named")
			}
		})
	}
}

// TestVisitError: an Open that its caller ended changes nothing.
func TestVisitError(t *testing.T) {
	dir, want := build(t, 0, 10, 20)
	stop := errors.New("stop")
	if _, _, err := wal.Open(dir, wal.Options{}, func(wal.Pos, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	l, rec, got := open(t, dir, wal.Options{})
	same(t, "after it", got, want)
	if !rec.Clean {
		t.Errorf("%+v", rec)
	}
	if err := l.Scan(wal.Pos{}, func(wal.Pos, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("scan: %v", err)
	}
}

// TestOtherVersion: a log of another program is refused and not touched.
func TestOtherVersion(t *testing.T) {
	table := crc32.MakeTable(crc32.Castagnoli)
	for name, change := range map[string]func(head []byte){
		"version": func(h []byte) { h[8] = 2 },
		"number":  func(h []byte) { h[12] = 9 },
	} {
		dir, _ := build(t, 0, 10)
		f := files(t, dir)[0]
		b, err := os.ReadFile(f)
		must(t, err)
		change(b)
		binary.LittleEndian.PutUint32(b[20:], crc32.Checksum(b[:20], table))
		must(t, os.WriteFile(f, b, 0o600))
		if _, _, err := wal.Open(dir, wal.Options{}, nil); !errors.Is(err, wal.ErrVersion) {
			t.Errorf("%s: %v", name, err)
		}
		after, err := os.ReadFile(f)
		if err != nil || !bytes.Equal(after, b) {
			t.Errorf("%s: the file was changed", name)
		}
		if _, err := os.Stat(filepath.Join(dir, "closed")); errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the marker was removed", name)
		}
	}
}

// oracle finds every position of a file where the format says that an intact frame is, by trying all.
func oracle(file []byte, no uint64) map[int64][]byte {
	found, table := map[int64][]byte{}, crc32.MakeTable(crc32.Castagnoli)
	for off := 0; off+9 <= len(file); off++ {
		n := uint64(binary.LittleEndian.Uint32(file[off:]))
		if n == 0 || n > uint64(len(file)-off-8) {
			continue
		}
		covered := binary.LittleEndian.AppendUint64(nil, no)
		covered = binary.LittleEndian.AppendUint64(covered, uint64(off))
		covered = append(covered, file[off:off+4]...)
		covered = append(covered, file[off+8:off+8+int(n)]...)
		if crc32.Checksum(covered, table) == binary.LittleEndian.Uint32(file[off+4:]) {
			found[int64(off)] = file[off+8 : off+8+int(n)]
		}
	}
	return found
}

// FuzzOpen opens a log of two files of arbitrary bytes: it never panics, and visits exactly the frames that a search of
// all positions finds and that do not overlap.
func FuzzOpen(f *testing.F) {
	dir, _ := build(f, 150, 1, 60, 40, 100, 3)
	all := files(f, dir)
	for i := range all[1:] {
		a, err := os.ReadFile(all[i])
		must(f, err)
		b, err := os.ReadFile(all[i+1])
		must(f, err)
		f.Add(a, b)
		f.Add(a[:len(a)/2], b)
		f.Add(append(bytes.Clone(a[:40]), a[44:]...), b[:len(b)-1])
	}
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		dir := memDir(t)
		var want []kept
		for i, file := range [][]byte{a, b} {
			no := uint64(i + 1)
			must(t, os.MkdirAll(dir, 0o700))
			must(t, os.WriteFile(filepath.Join(dir, fmt.Sprintf("%016x.wal", no)), file, 0o600))
			found := oracle(file, no)
			for off := int64(24); off < int64(len(file)); off++ {
				if data, ok := found[off]; ok {
					want = append(want, kept{wal.Pos{File: no, Off: off}, data})
					off += 7 + int64(len(data))
				}
			}
		}
		var got []kept
		l, rec, err := wal.Open(dir, wal.Options{}, func(p wal.Pos, b []byte) error {
			got = append(got, kept{p, bytes.Clone(b)})
			return nil
		})
		if errors.Is(err, wal.ErrVersion) {
			return
		}
		must(t, err)
		defer l.Close()
		same(t, "opened", got, want)
		if rec.Clean {
			t.Error("clean")
		}
		want = append(want, add(t, l, []byte("goes on"))...)
		same(t, "scanned", scan(t, l, wal.Pos{}), want)
		checkSize(t, dir, l.Size())
	})
}
