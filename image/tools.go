// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// ErrNoTool is wrapped when a program that changes file systems is not installed.
var ErrNoTool = errors.New("is not installed")

// volume is a file system on an open disk or image. Paths are absolute, with slashes, and ours: no name comes from the disk.
type volume interface {
	// write creates or replaces files; folders are made as needed.
	write(ctx context.Context, files []entry) error
	// copyOut writes a file's contents to a new file of this machine; ok is false if it is not there.
	copyOut(ctx context.Context, name, to string) (ok bool, err error)
}

// entry is a file to write.
type entry struct {
	name string
	data []byte
	from string // file with the contents, instead of data
	mode uint32 // where the file system has modes; 0 = 0644
	link string // a symbolic link to this, where the file system has links
}

// maxRead is the largest file of a disk that is looked at.
const maxRead = 1 << 20

// peek returns a file of a volume; ok is false if it is not there.
func peek(ctx context.Context, v volume, name string) (data []byte, ok bool, err error) {
	err = withCopy(ctx, v, name, func(from string, there bool) error {
		if ok = there; !ok {
			return nil
		}
		info, err := os.Stat(from)
		if err == nil && info.Size() > maxRead {
			err = fmt.Errorf("it has more than %d bytes", maxRead)
		}
		if err == nil {
			data, err = os.ReadFile(from)
		}
		return err
	})
	return data, ok, err
}

// withCopy hands on a copy of a file of a volume, for as long as do runs.
func withCopy(ctx context.Context, v volume, name string, do func(from string, there bool) error) error {
	dir, err := os.MkdirTemp("", "streembit-image-")
	if err != nil {
		return fmt.Errorf("image: reading %s: %w", name, err)
	}
	defer os.RemoveAll(dir)
	to := filepath.Join(dir, "file")
	ok, err := v.copyOut(ctx, name, to)
	if err == nil {
		err = do(to, ok)
	}
	if err != nil {
		return fmt.Errorf("image: reading %s of the card: %w", name, err)
	}
	return nil
}

// tool runs a program with the disk as its file descriptor 3: what it opens is what we have open, whatever has become of the path.
func tool(ctx context.Context, disk *os.File, stdin io.Reader, name string, args ...string) (out []byte, err error) {
	program, err := exec.LookPath(name)
	if err != nil { // debugfs, for people who are not root
		program, err = exec.LookPath(filepath.Join("/usr/sbin", name))
	}
	if err != nil {
		return nil, fmt.Errorf("image: %s %w", name, ErrNoTool)
	}
	c := exec.CommandContext(ctx, program, args...)
	c.ExtraFiles = []*os.File{disk}
	c.Env = append(os.Environ(), "MTOOLSRC=/dev/null", "LC_ALL=C.UTF-8", "DEBUGFS_PAGER=cat")
	c.Stdin = stdin
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &limited{&stdout, maxRead + 1}, &limited{&stderr, 4096}
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("image: %s: %w: %s", name, err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}

// limited keeps the first bytes that are written to it.
type limited struct {
	to   *bytes.Buffer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	l.to.Write(p[:n])
	return len(p), nil
}

// fat is a FAT file system that mtools reads and changes.
type fat struct {
	disk  *os.File
	start int64
}

func (f fat) run(ctx context.Context, stdin io.Reader, name string, args ...string) ([]byte, error) {
	return tool(ctx, f.disk, stdin, name, append([]string{"-i", fmt.Sprintf("/dev/fd/3@@%d", f.start)}, args...)...)
}

func (f fat) copyOut(ctx context.Context, name, to string) (bool, error) {
	_, err := f.run(ctx, nil, "mcopy", "-n", "::"+name, to)
	if err != nil && strings.Contains(err.Error(), "not found") {
		return false, nil
	}
	return err == nil, err
}

func (f fat) write(ctx context.Context, files []entry) error {
	made := map[string]bool{"/": true}
	for _, e := range files {
		if dir := path.Dir(e.name); !made[dir] {
			if _, err := f.run(ctx, nil, "mmd", "-D", "s", "::"+dir); err != nil && !strings.Contains(err.Error(), "exit status 1") {
				return err
			}
			made[dir] = true
		}
		src, args := e.from, []string{"-o", "-Q"}
		var in io.Reader
		if src == "" {
			src, in = "-", bytes.NewReader(e.data)
		}
		if _, err := f.run(ctx, in, "mcopy", append(args, src, "::"+e.name)...); err != nil {
			return fmt.Errorf("image: writing %s to the boot partition: %w", e.name, err)
		}
	}
	return nil
}

// ext is an ext2, 3 or 4 file system that debugfs reads and changes.
type ext struct {
	disk  *os.File
	start int64
}

func (x ext) run(ctx context.Context, commands string, flags ...string) ([]byte, error) {
	return tool(ctx, x.disk, strings.NewReader(commands), "debugfs", append(flags, "-f", "-", fmt.Sprintf("/dev/fd/3?offset=%d", x.start))...)
}

// copyOut: debugfs ends well whatever happens, so that the file itself tells.
func (x ext) copyOut(ctx context.Context, name, to string) (bool, error) {
	if _, err := x.run(ctx, fmt.Sprintf("dump %s %s\n", name, to)); err != nil {
		return false, err
	}
	info, err := os.Lstat(to)
	return err == nil && info.Mode().IsRegular(), nil
}

func (x ext) write(ctx context.Context, files []entry) error {
	dir, err := os.MkdirTemp("", "streembit-image-")
	if err != nil {
		return fmt.Errorf("image: writing to the system: %w", err)
	}
	defer os.RemoveAll(dir)
	var script strings.Builder
	made := map[string]bool{}
	for i, e := range files {
		if err := x.folders(ctx, &script, made, path.Dir(e.name)); err != nil {
			return err
		}
		src := filepath.Join(dir, fmt.Sprint(i))
		fmt.Fprintf(&script, "rm %s\n", e.name)
		if e.link != "" {
			fmt.Fprintf(&script, "symlink %s %s\n", e.name, e.link)
			continue
		}
		if err := stage(src, e); err != nil {
			return err
		}
		mode := e.mode
		if mode == 0 {
			mode = 0o644
		}
		fmt.Fprintf(&script, "write %s %s\nsif %s mode 0%o\nsif %s uid 0\nsif %s gid 0\n", src, e.name, e.name, 0o100000|mode, e.name, e.name)
	}
	_, err = x.run(ctx, script.String(), "-w")
	return err
}

// folders adds the commands that make a folder and those above it where they are missing: mkdir of one that is there would damage the file system.
func (x ext) folders(ctx context.Context, script *strings.Builder, made map[string]bool, dir string) error {
	if dir == "/" || made[dir] {
		return nil
	}
	if err := x.folders(ctx, script, made, path.Dir(dir)); err != nil {
		return err
	}
	made[dir] = true
	out, err := x.run(ctx, "stat "+dir+"\n")
	if err == nil && !bytes.Contains(out, []byte("Type: directory")) {
		fmt.Fprintf(script, "mkdir %s\n", dir)
	}
	return err
}

func stage(to string, e entry) error {
	if e.from == "" {
		if err := os.WriteFile(to, e.data, 0o600); err != nil {
			return fmt.Errorf("image: writing %s: %w", e.name, err)
		}
		return nil
	}
	from, err := filepath.Abs(e.from)
	if err == nil {
		err = os.Symlink(from, to)
	}
	if err != nil {
		return fmt.Errorf("image: writing %s: %w", e.name, err)
	}
	return nil
}
