// SPDX-License-Identifier: Apache-2.0

package slots

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"golang.org/x/sys/unix"

	"github.com/streembit/edge/ota"
)

// Names below the agent's state folder: what it hands over, and how it is.
const (
	updateName   = "update"
	inboxName    = "inbox"
	requestName  = "request.json"
	programName  = "program"
	metadataName = "metadata"
	healthName   = "health.json"
)

// RequestFile is where the agent asks for an update, below its state folder. Its appearance starts the updater.
const RequestFile = updateName + "/" + inboxName + "/" + requestName

// Bounds of what the agent hands over.
const (
	maxRequest  = 64 << 10
	maxMetadata = 6 << 20 // bytes of one file
	maxAll      = 24 << 20
	maxFiles    = 600
)

// Request is what the agent wants installed.
type Request struct {
	Path     string      `json:"path"`   // of the TUF target
	Wanted   ota.Version `json:"wanted"` // that it should be
	Baseline Baseline    `json:"baseline"`
}

// HandOver puts a program and all that proves it where the updater looks, and the request last: it is there as a whole or not at all. metadata is
// the content of each file by its name.
func HandOver(state string, r Request, metadata map[string][]byte, program io.Reader) error {
	box := filepath.Join(state, updateName, inboxName)
	d := disk{}
	if err := errors.Join(d.remove(filepath.Join(box, requestName)), d.removeAll(box), os.MkdirAll(filepath.Join(box, metadataName), 0o700)); err != nil {
		return fmt.Errorf("slots: emptying the inbox: %w", err)
	}
	for name, data := range metadata {
		if !metadataFile.MatchString(name) {
			return fmt.Errorf("slots: metadata file %q: want a plain name", name)
		}
		if err := d.create(filepath.Join(box, metadataName, name), data); err != nil {
			return fmt.Errorf("slots: handing over %s: %w", name, err)
		}
	}
	f, err := os.OpenFile(filepath.Join(box, programName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("slots: handing over the program: %w", err)
	}
	_, err = io.Copy(f, program)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("slots: handing over the program: %w", err)
	}
	text, err := json.Marshal(r)
	if err == nil {
		err = errors.Join(d.sync(filepath.Join(box, metadataName)), d.sync(box))
	}
	if err == nil {
		err = d.replace(filepath.Join(box, requestName), text)
	}
	if err != nil {
		return fmt.Errorf("slots: handing over the request: %w", err)
	}
	return nil
}

// metadataFile is what a file of TUF metadata may be called.
var metadataFile = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,99}\.json$`)

// inbox reads what the agent handed over. The agent may be anybody by now and may change everything at any time: so no link is followed below its
// state folder, only plain files with one name are opened, every size is bounded, and nothing is looked at twice.
type inbox struct {
	dir *os.File
}

func openInbox(state string) (*inbox, error) {
	base, err := os.Open(state) // its path belongs to root; systemd makes it a link
	if err != nil {
		return nil, fmt.Errorf("slots: opening the agent's state folder: %w", err)
	}
	update, err := folderAt(base, updateName)
	_ = base.Close()
	if err != nil {
		return nil, err
	}
	dir, err := folderAt(update, inboxName)
	_ = update.Close()
	if err != nil {
		return nil, err
	}
	return &inbox{dir}, nil
}

func (b *inbox) close() { _ = b.dir.Close() }

func folderAt(dir *os.File, name string) (*os.File, error) {
	return openAt(dir, name, unix.O_DIRECTORY)
}

func openAt(dir *os.File, name string, flags int) (*os.File, error) {
	for {
		fd, err := unix.Openat(int(dir.Fd()), name, flags|unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return nil, fmt.Errorf("slots: opening %s: %w", filepath.Join(dir.Name(), name), err)
		}
		return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), name)), nil
	}
}

// errOdd: what lies there is no plain file of its own.
var errOdd = errors.New("want a plain file with one name")

// fileAt opens a plain file that is at most so many bytes long.
func fileAt(dir *os.File, name string, limit int64) (*os.File, int64, error) {
	f, err := openAt(dir, name, 0)
	if err != nil {
		return nil, 0, err
	}
	var st unix.Stat_t
	err = unix.Fstat(int(f.Fd()), &st)
	switch {
	case err != nil:
	case st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1:
		err = errOdd
	case st.Size > limit:
		err = fmt.Errorf("%d bytes, want at most %d", st.Size, limit)
	default:
		return f, st.Size, nil
	}
	return nil, 0, errors.Join(fmt.Errorf("slots: %s: %w", f.Name(), err), f.Close())
}

func readAt(dir *os.File, name string, limit int64) ([]byte, error) {
	f, _, err := fileAt(dir, name, limit)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("slots: reading %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("slots: reading %s: it grows", name)
	}
	return data, nil
}

func (b *inbox) request() (r Request, err error) {
	data, err := readAt(b.dir, requestName, maxRequest)
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("slots: the request: %w", err)
	}
	return r, nil
}

// drop takes the request away.
func (b *inbox) drop() error {
	if err := unix.Unlinkat(int(b.dir.Fd()), requestName, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("slots: removing the request: %w", err)
	}
	return nil
}

// copyMetadata copies the metadata into an empty folder of the updater's own.
func (b *inbox) copyMetadata(to string) error {
	dir, err := folderAt(b.dir, metadataName)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	names, err := dir.Readdirnames(maxFiles + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("slots: reading the metadata folder: %w", err)
	}
	if len(names) > maxFiles {
		return fmt.Errorf("slots: more than %d files of metadata", maxFiles)
	}
	all := 0
	for _, name := range names {
		if !metadataFile.MatchString(name) {
			continue
		}
		data, err := readAt(dir, name, maxMetadata)
		if err != nil {
			return err
		}
		if all += len(data); all > maxAll {
			return fmt.Errorf("slots: more than %d bytes of metadata", maxAll)
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o600); err != nil { // only to be read now, so it needs no fsync
			return fmt.Errorf("slots: copying metadata: %w", err)
		}
	}
	return nil
}
