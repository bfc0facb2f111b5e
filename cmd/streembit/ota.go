// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota/trust"
	"github.com/streembit/edge/ota/trust/repo"
)

// otaDir is the release folder of an owner or an operator, in the fleet's folder. metadata and programs in it are public.
type otaDir string

func (d fleetDir) ota() otaDir { return otaDir(filepath.Join(string(d), "ota")) }

// key is the file of one of our keys: root-1, root-2, root-3, targets, snapshot, timestamp.
func (d otaDir) key(name string) string { return filepath.Join(string(d), "keys", name+".key") }

// open returns what was founded there.
func (d otaDir) open() (*repo.Repo, error) {
	r, err := repo.Open(string(d))
	if errors.Is(err, repo.ErrNoRoot) {
		err = cli.Try(err, "streembit ota keygen --dir %s", cli.Quote(filepath.Dir(string(d))))
	}
	return r, err
}

// onLine are the keys that an operator's node has at hand to keep metadata fresh; targets is kept off line where that is taken seriously.
func onLine() []string { return []string{"targets", "snapshot", "timestamp"} }

func newOta(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ota",
		Short: "Sign and publish updates of streembitd",
		Long: `Updates are proven by TUF metadata: a root that 2 of 3 holders sign, targets that name the programs, snapshot and timestamp that keep them fresh.
Once:            streembit ota keygen, then streembit ota pin
Each release:    streembit ota release --version 1.4.0 FILE…, then streembit ota sign, streembit ota publish, streembit ota rollout --to 1.4.0
All the time:    streembit ota keep`,
		Args: cobra.ArbitraryArgs, RunE: cli.Group,
	}
	cmd.AddCommand(newOtaKeygen(a), newOtaKey(a), newOtaRoot(a), newOtaPin(a), newOtaRelease(a), newOtaWithdraw(a), newOtaSign(a), newOtaVerify(a), newOtaBundle(a),
		newOtaPublish(a), newOtaRollout(a), newOtaStatus(a), newOtaKeep(a),
		newOtaTurn(a, "pause", "Let no more devices begin; those that have begun go on", pauseRollout),
		newOtaTurn(a, "resume", "Go on with a rollout that was paused", resumeRollout),
		newOtaTurn(a, "rollback", "Have devices go back to the version before", backRollout))
	return cmd
}

// lockOta holds the release folder against other commands that write there.
func lockOta(ctx context.Context, d otaDir) (release func() error, err error) {
	if err := os.MkdirAll(string(d), 0o700); err != nil {
		return nil, fmt.Errorf("making release folder: %w", err)
	}
	lock, err := lockFolder(ctx, string(d))
	if err != nil {
		return nil, err
	}
	return lock.Close, nil
}

// otaKeys loads those of the folder's keys that are there, and the files. A passphrase is asked for once if it opens all.
func (d *desk) otaKeys(ctx context.Context, names, files []string) (keys []journal.Signer, err error) {
	for _, name := range names {
		k, err := d.ownerKey(ctx, d.dir.ota().key(name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	for _, file := range files {
		k, err := d.ownerKey(ctx, file)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, nil
}

// newOtaKeyFile makes a key, and refuses to replace one.
func (a *app) newOtaKeyFile(path, passphrase string) (journal.SoftKey, error) {
	if _, err := os.Lstat(path); err == nil {
		return journal.SoftKey{}, cli.Try(fmt.Errorf("making key: %s: %w, and nothing is overwritten", path, fs.ErrExist), "another name")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return journal.SoftKey{}, fmt.Errorf("making key: %w", err)
	}
	key, text, err := fleet.NewKey()
	if err != nil {
		return key, err
	}
	return key, a.writeKey(path, text, passphrase)
}

// toBackUp lists what of the release folder a backup holds, by names in the fleet's folder: keys and metadata. Programs can be built again.
func (d otaDir) toBackUp() (names []string, err error) {
	for _, dir := range []string{"keys", "metadata"} {
		entries, err := os.ReadDir(filepath.Join(string(d), dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("backing up: %w", err)
		}
		for _, e := range entries {
			if name := path.Join("ota", dir, e.Name()); isUpdateFile(name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// isUpdateFile reports whether a name in a backup is that of a key or of metadata of updates.
func isUpdateFile(name string) bool {
	if file, ok := strings.CutPrefix(name, "ota/metadata/"); ok {
		return trust.ValidName(file)
	}
	key, ok := strings.CutPrefix(name, "ota/keys/")
	return ok && slices.ContainsFunc(append(onLine(), "root-1", "root-2", "root-3"), func(known string) bool { return key == known+".key" })
}
