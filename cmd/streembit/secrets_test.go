// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/fleet"
)

// TestSeal_CostOfAGuess: what this program writes asks for scrypt with 2^18.
func TestSeal_CostOfAGuess(t *testing.T) {
	a := newApp()
	sealed, err := a.seal([]byte("secret"), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	head, err := base64.StdEncoding.DecodeString(strings.Split(string(sealed), "\n")[1] + strings.Split(string(sealed), "\n")[2])
	if err != nil {
		t.Fatal(err)
	}
	// age-encryption.org/v1: "-> scrypt" SALT WORK-FACTOR
	if line := strings.Split(string(head), "\n")[1]; !strings.HasPrefix(line, "-> scrypt ") || !strings.HasSuffix(line, " 18") {
		t.Errorf("%q", line)
	}
	if !isSealed(sealed) {
		t.Errorf("%s", sealed)
	}
}

func TestUnseal_RefusesEveryChange(t *testing.T) {
	a := newApp()
	a.work = 4
	sealed, err := a.seal([]byte("secret"), "correct horse")
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := unseal(sealed, "correct horse"); err != nil || string(plain) != "secret" {
		t.Errorf("%q, %v", plain, err)
	}
	if _, err := unseal(sealed, "Correct horse"); !errors.Is(err, errWrongPassphrase) {
		t.Errorf("another passphrase: %v", err)
	}
	for i := range sealed {
		if sealed[i] == '\n' {
			continue
		}
		changed := bytes.Clone(sealed)
		changed[i] ^= 3
		if plain, err := unseal(changed, "correct horse"); err == nil {
			t.Fatalf("character %d changed: opened %q", i, plain)
		}
	}
	for n := range len(sealed) - 2 { // without the last line break it is whole
		if plain, err := unseal(sealed[:n], "correct horse"); err == nil {
			t.Fatalf("cut after %d of %d: opened %q", n, len(sealed), plain)
		}
	}
}

// TestUnpack_WritesNowhereElse: an archive holds the files that a folder has, each once, and nothing else.
func TestUnpack_WritesNowhereElse(t *testing.T) {
	type file struct {
		name string
		kind byte
		size int64
	}
	pack := func(files ...file) []byte {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		for _, f := range files {
			h := &tar.Header{Name: f.name, Typeflag: f.kind, Size: f.size, Mode: 0o777, Linkname: "/etc/passwd"}
			if f.kind != tar.TypeReg {
				h.Size = 0
			}
			if err := w.WriteHeader(h); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(make([]byte, h.Size)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	bundle := file{bundleName, tar.TypeReg, 10}
	token := "tokens/" + strings.Repeat("a1", 16) + ".toml"
	if files, err := unpack(pack(file{"owner.key", tar.TypeReg, 5}, file{token, tar.TypeReg, 5}, bundle)); err != nil || len(files) != 3 {
		t.Errorf("a good one: %d files, %v", len(files), err)
	}
	for name, archive := range map[string][]byte{
		"outside":     pack(file{"../owner.key", tar.TypeReg, 5}, bundle),
		"absolute":    pack(file{"/etc/cron.d/x", tar.TypeReg, 5}, bundle),
		"token up":    pack(file{"tokens/../../x.toml", tar.TypeReg, 5}, bundle),
		"a life":      pack(file{"life", tar.TypeReg, 32}, bundle),
		"a link":      pack(file{"owner.key", tar.TypeSymlink, 0}, bundle),
		"a folder":    pack(file{"owner.key", tar.TypeDir, 0}, bundle),
		"twice":       pack(bundle, bundle),
		"too large":   pack(file{"owner.key", tar.TypeReg, maxBackedUp + 1}, bundle),
		"no bundle":   pack(file{"owner.key", tar.TypeReg, 5}),
		"empty":       pack(),
		"no archive":  []byte("hello"),
		"cut":         pack(bundle)[:520],
		"unknown one": pack(file{"id_rsa", tar.TypeReg, 5}, bundle),
	} {
		if files, err := unpack(archive); !errors.Is(err, errBackup) {
			t.Errorf("%s: %d files, %v", name, len(files), err)
		}
	}
}

func TestParseExpires(t *testing.T) {
	now := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"7d": now.AddDate(0, 0, 7), "2w": now.AddDate(0, 0, 14), "12h": now.Add(12 * time.Hour), "2027-01-31T08:00:00Z": time.Date(2027, 1, 31, 8, 0, 0, 0, time.UTC),
	} {
		if got, err := parseExpires(in, now); err != nil || got != want.UnixMilli() {
			t.Errorf("%q: %s, %v", in, day(got), err)
		}
	}
	if got, err := parseExpires("", now); err != nil || got != 0 {
		t.Errorf("never: %d, %v", got, err)
	}
	for _, in := range []string{"-7d", "0d", "7", "d", "7y", "7dx", "99999999d", "2025-01-01", "yesterday"} {
		if got, err := parseExpires(in, now); err == nil {
			t.Errorf("%q: %s", in, day(got))
		}
	}
}

// TestLife_IsRenewedAfterACut: an operator that was revoked and appointed again writes another chain, since the first one stays cut.
func TestLife_IsRenewedAfterACut(t *testing.T) {
	a := newApp()
	dir := fleetDir(filepath.Join(t.TempDir(), "owner"))
	f, by, err := foundFleet(a, dir, "lab", "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	mine := fleetDir(t.TempDir())
	id, err := makeIdentity(stateDir(mine))
	if err != nil {
		t.Fatal(err)
	}
	key, err := fleet.LoadKey(mine.key())
	if err != nil {
		t.Fatal(err)
	}
	appoint := fleet.Grant{Member: id.ID, Name: "ann", Roles: fleet.Operator, Rights: fleet.Everything()}
	begin := func() *office {
		o := &office{desk: desk{app: a, dir: mine}, know: &knowledge{fleet: f}, author: fleet.Author{Key: key}}
		if err := o.loadLife(); err != nil {
			t.Fatal(err)
		}
		return o
	}
	grant := func(o *office, n int) error {
		next, err := f.Grant(o.author, time.Now(), fleet.Grant{Member: newTestID(t, n), Name: "pi", Roles: fleet.Device})
		if err == nil {
			f = next
		}
		return err
	}
	must := func(next *fleet.Fleet, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		f = next
	}
	must(f.Grant(by, time.Now(), appoint))
	first := begin()
	if err := grant(first, 1); err != nil {
		t.Fatal(err)
	}
	if again := begin(); again.author.Life != first.author.Life {
		t.Error("another life without a reason: each start would begin a chain")
	}
	must(f.Revoke(by, time.Now(), id.ID, f.Tips(id.ID), "holiday"))
	must(f.Grant(by, time.Now(), appoint))
	if err := grant(first, 2); err == nil {
		t.Error("the cut chain goes on")
	}
	second := begin()
	if second.author.Life == first.author.Life {
		t.Error("the same life after a cut")
	}
	if err := grant(second, 2); err != nil {
		t.Error(err)
	}
}
