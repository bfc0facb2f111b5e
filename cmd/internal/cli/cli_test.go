// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/streembit/edge/cmd/internal/cli"
)

func TestReport(t *testing.T) {
	p := cli.Program{Name: "prog", Kinds: []cli.Kind{
		{Is: cli.Wraps(fs.ErrNotExist), Code: cli.Refused, Try: "prog make"},
		{Is: cli.Is[*fs.PathError], Code: cli.Unreachable, Try: "prog look"},
	}}
	missing := &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}
	broken := &fs.PathError{Op: "open", Path: "x", Err: errors.New("odd")}
	for _, c := range []struct {
		err  error
		code cli.Code
		says string
	}{
		{nil, cli.OK, ""},
		{errors.New("odd"), cli.Failure, "prog: odd\ntry: prog --help\n"},
		{fmt.Errorf("a: %w", missing), cli.Refused, "prog: a: open x: file does not exist\ntry: prog make\n"},
		{broken, cli.Unreachable, "prog: open x: odd\ntry: prog look\n"},
		{cli.Usage(missing), cli.Misuse, "prog: open x: file does not exist\ntry: prog --help\n"},
		{fmt.Errorf("a: %w", cli.Try(cli.Usagef("b %d", 1), "prog %s", "c")), cli.Misuse, "prog: a: b 1\ntry: prog c\n"},
		{cli.Try(missing, "touch x"), cli.Refused, "prog: open x: file does not exist\ntry: touch x\n"},
		{fmt.Errorf("a: %w", context.Canceled), cli.Failure, "prog: interrupted\ntry: the same command again\n"},
		{errors.Join(cli.Try(broken, "that"), nil), cli.Unreachable, "prog: open x: odd\ntry: that\n"},
	} {
		var out strings.Builder
		if code := p.Report(&out, c.err); code != c.code || out.String() != c.says {
			t.Errorf("%v: exit code %d and %q, want %d and %q", c.err, code, out.String(), c.code, c.says)
		}
	}
}

func TestParseTOML(t *testing.T) {
	type config struct {
		Name string `toml:"name"`
		Size int    `toml:"size"`
	}
	c := config{Size: 7}
	if err := cli.ParseTOML([]byte("name = \"a\""), &c); err != nil || c != (config{"a", 7}) {
		t.Errorf("got %+v, %v", c, err)
	}
	for text, want := range map[string]string{
		"name = \"a\"\nsiez = 1": "2| siez = 1",
		"size = 1\nname = ":      "line 2, column ",
		"size = \"big\"":         "line 1, column ",
	} {
		if err := cli.ParseTOML([]byte(text), &c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q in it", text, err, want)
		}
	}
}

func TestTableAlignsWhatPeopleSee(t *testing.T) {
	var out bytes.Buffer
	tab := cli.NewTable(&out, 1)
	tab.Row("NAME", "N", "COURSE")
	tab.Row("a", "12", "▁▂▃")
	tab.Row("bcdef", "3", "")
	tab.Flush()
	const want = "NAME    N  COURSE\na      12  ▁▂▃\nbcdef   3\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{"/a/b-c.d": "/a/b-c.d", "a b": "'a b'", "it's": `'it'\''s'`, "": "''", "$x": "'$x'"} {
		if got := cli.Quote(in); got != want {
			t.Errorf("cli.Quote(%q) = %s, want %s", in, got, want)
		}
	}
}
