// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/audit"
)

// kept lists the files of a folder that go into a backup. The author's life is not among them: who was restored begins another chain of the fleet
// log, since the one that was backed up may have gone on. Nor is the audit log, which is about this machine.
func kept() []string {
	return []string{"owner.key", "spare.key", "recovery.key", fleet.KeyFile, "reader.pem", "reader.pub", bundleName}
}

// Bounds of a backup, in bytes.
const (
	maxBackedUp = fleet.MaxBundle + 1<<20 // one file
	maxBackup   = 2 * maxBackedUp         // all
)

// isToken reports whether a name in a backup is that of a token's file.
func isToken(name string) bool {
	hex, ok := strings.CutSuffix(strings.TrimPrefix(name, "tokens/"), ".toml")
	return ok && strings.HasPrefix(name, "tokens/") && len(hex) == 32 && strings.Trim(hex, "0123456789abcdef") == ""
}

func newFleetBackup(a *app) *cobra.Command {
	d := desk{app: a}
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write the folder's keys, bundle and tokens into one encrypted file",
		Long: `The file is an armored age file with a passphrase of its own, and a tar archive within. Keys that have a passphrase keep it in there. Make one after
each change of keys; what others changed since comes from the hubs when it is restored.`,
		Example: "  streembit fleet backup /media/usb/lab.backup",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE:    func(cmd *cobra.Command, argv []string) error { return d.backup(cmd.Context(), argv[0]) },
	}
	dirFlag(cmd, (*string)(&d.dir))
	d.pass.app = a
	d.pass.flag(cmd)
	d.jsonFlag(cmd)
	return cmd
}

func (d desk) backup(ctx context.Context, file string) (err error) {
	d.quiet()
	f, err := d.dir.load()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(file); err == nil {
		return cli.Try(fmt.Errorf("backing up: %s: %w, and nothing is overwritten", file, fs.ErrExist), "streembit fleet backup %s", cli.Quote(file+".2"))
	}
	lock, err := lockFolder(ctx, string(d.dir))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	names, err := d.toBackUp()
	if err != nil {
		return err
	}
	passphrase, err := d.pass.choose(ctx, "the backup")
	if err != nil {
		return err
	}
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("backing up: %w", err)
	}
	err = d.app.sealTo(out, passphrase, func(w io.Writer) error { return d.archive(w, names) })
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return errors.Join(fmt.Errorf("backing up: %w", err), os.Remove(file))
	}
	fmt.Fprintf(d.app.out, "backup of fleet %s, version %d, in %s: %s\n", f.State().Name, f.State().Version, file, strings.Join(names, " "))
	a := answerOf(f)
	a.Changed, a.File, a.Files = true, file, names
	return d.reply(a)
}

// toBackUp lists what the folder has of kept and tokens.
func (d desk) toBackUp() (names []string, err error) {
	for _, name := range kept() {
		if _, err := os.Stat(filepath.Join(string(d.dir), name)); err == nil {
			names = append(names, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("backing up: %w", err)
		}
	}
	entries, err := os.ReadDir(d.dir.tokens())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("backing up: %w", err)
	}
	for _, e := range entries {
		if name := path.Join("tokens", e.Name()); isToken(name) {
			names = append(names, name)
		}
	}
	ota, err := d.dir.ota().toBackUp()
	return append(names, ota...), err
}

func (d desk) archive(w io.Writer, names []string) error {
	t := tar.NewWriter(w)
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(string(d.dir), filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(data)), ModTime: time.Now()}); err != nil {
			return err
		}
		if _, err := t.Write(data); err != nil {
			return err
		}
	}
	return t.Close()
}

func newFleetRestore(a *app) *cobra.Command {
	d := desk{app: a}
	var newest bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a backup into a new folder",
		Long: `The keys come back as they were. Before the first change the folder must hear from a hub what its key has signed since the backup, lest it sign a
second history; --newest says that nothing was changed since.`,
		Example: "  streembit fleet restore /media/usb/lab.backup --dir lab",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE:    func(cmd *cobra.Command, argv []string) error { return d.restore(cmd.Context(), argv[0], newest) },
	}
	cmd.Flags().BoolVar(&newest, "newest", false, "nothing was changed since this backup: let the folder write without having heard from a hub")
	dirFlag(cmd, (*string)(&d.dir))
	d.pass.app = a
	d.pass.flag(cmd)
	d.jsonFlag(cmd)
	return cmd
}

func (d desk) restore(ctx context.Context, file string, newest bool) error {
	d.quiet()
	for _, name := range append(kept(), "life", "tokens", "ota") {
		if _, err := os.Lstat(filepath.Join(string(d.dir), name)); err == nil {
			return cli.Try(fmt.Errorf("restoring: %s in %s: %w, and nothing is overwritten", name, d.dir, fs.ErrExist),
				"streembit fleet restore %s --dir %s", cli.Quote(file), cli.Quote(string(d.dir)+".restored"))
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return cli.Try(fmt.Errorf("restoring: %w", err), "streembit fleet restore FILE with the file that streembit fleet backup wrote")
	}
	if !isSealed(text) {
		return cli.Try(cli.Usagef("restoring: %s is no backup", file), "streembit fleet restore FILE with the file that streembit fleet backup wrote")
	}
	plain, err := d.pass.open(ctx, text, file)
	if err != nil {
		return err
	}
	files, err := unpack(plain)
	if err != nil {
		return cli.Try(fmt.Errorf("restoring %s: %w", file, err), "an older backup")
	}
	return d.putBack(file, files, newest)
}

// putBack writes the files, the bundle last: without it the folder is no fleet's.
func (d desk) putBack(file string, files map[string][]byte, newest bool) error {
	if err := os.MkdirAll(d.dir.tokens(), 0o700); err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	names := make([]string, 0, len(files))
	for name, data := range files {
		names = append(names, name)
		if name == bundleName {
			continue
		}
		if err := os.MkdirAll(filepath.Join(string(d.dir), filepath.FromSlash(path.Dir(name))), 0o700); err != nil {
			return fmt.Errorf("restoring: %w", err)
		}
		if err := fleet.WriteFile(filepath.Join(string(d.dir), filepath.FromSlash(name)), data, 0o600); err != nil {
			return err
		}
	}
	slices.Sort(names)
	if !newest {
		if err := fleet.WriteFile(d.dir.restored(), []byte("from "+file+"\n"), 0o600); err != nil {
			return err
		}
	}
	if err := fleet.WriteFile(d.dir.bundle(), files[bundleName], 0o644); err != nil {
		return err
	}
	f, err := d.dir.load()
	if err != nil {
		return err
	}
	if len(f.Hubs()) == 0 { // nobody to hear from
		newest = true
		if err := d.dir.clearRestored(); err != nil {
			return err
		}
	}
	fmt.Fprintf(d.app.out, "fleet %s, version %d, restored to %s: %s\n", f.State().Name, f.State().Version, d.dir, strings.Join(names, " "))
	if !newest {
		fmt.Fprintf(d.app.err, "\nnext: streembit fleet sync --dir %s\n", cli.Quote(string(d.dir)))
	}
	if err := d.noteRestored(file); err != nil {
		return err
	}
	a := answerOf(f)
	a.Changed, a.File, a.Files = true, file, names
	return d.reply(a)
}

func (d desk) noteRestored(file string) error {
	log, err := audit.Open(audit.Options{Dir: d.dir.audit(), Boot: bootID().String(), Synced: clockSynced})
	if err != nil {
		return err
	}
	return errors.Join(log.Add(audit.Event{Event: "restore", What: file}), log.Close())
}

// errBackup is wrapped when an archive is not what streembit fleet backup writes.
var errBackup = errors.New("this is no backup of a fleet")

// unpack reads an archive into memory. Who knows the passphrase made it, and may still not write anywhere but into the folder.
func unpack(archive []byte) (map[string][]byte, error) {
	files := map[string][]byte{}
	t := tar.NewReader(strings.NewReader(string(archive)))
	left := int64(maxBackup)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errBackup, err)
		}
		known := slices.Contains(kept(), h.Name) || isToken(h.Name) || isUpdateFile(h.Name)
		if _, twice := files[h.Name]; !known || twice || h.Typeflag != tar.TypeReg || h.Size > min(maxBackedUp, left) {
			return nil, fmt.Errorf("%w: %q of %d bytes in it", errBackup, h.Name, h.Size)
		}
		left -= h.Size
		if files[h.Name], err = io.ReadAll(t); err != nil {
			return nil, fmt.Errorf("%w: %w", errBackup, err)
		}
	}
	if files[bundleName] == nil {
		return nil, fmt.Errorf("%w: no %s in it", errBackup, bundleName)
	}
	return files, nil
}

// isRestored reports whether the folder still has to hear what its key signed after the backup.
func (d fleetDir) isRestored() bool {
	_, err := os.Lstat(d.restored())
	return err == nil
}

func (d fleetDir) clearRestored() error {
	if err := os.Remove(d.restored()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("restoring: %w", err)
	}
	return nil
}
