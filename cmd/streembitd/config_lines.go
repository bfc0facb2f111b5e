// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	// The parser's interface may change with a version of the library, which go.mod pins; nothing else tells the line of a key.
	"github.com/pelletier/go-toml/v2/unstable"
)

// faultyEntry is what is wrong with the config's index-th [[table]], at one of its keys or, with key "", as a whole.
type faultyEntry struct {
	table string
	index int
	key   string
	err   error
}

func (e *faultyEntry) Error() string { return e.err.Error() }
func (e *faultyEntry) Unwrap() error { return e.err }

// place returns FILE:LINE of an entry's key, or of its head if it does not have the key; only FILE if the text does not tell.
func place(path string, text []byte, e *faultyEntry) string {
	for _, key := range []string{e.key, ""} {
		if line, ok := lines(text)[entryKey{e.table, e.index, key}]; ok {
			return fmt.Sprintf("%s:%d", path, line)
		}
	}
	return path
}

// entryKey names a key of the index-th [[table]]; key "" is the head.
type entryKey struct {
	table string
	index int
	key   string
}

// lines finds the lines of all arrays of tables and their keys in a TOML text.
func lines(text []byte) map[entryKey]int {
	found := map[entryKey]int{}
	count := map[string]int{}
	var p unstable.Parser
	p.Reset(text)
	var head entryKey // of the table that the parser is in
	for p.NextExpression() {
		e := p.Expression()
		path, line := keyOf(&p, e)
		switch e.Kind {
		case unstable.ArrayTable:
			head = entryKey{table: path[0], index: count[path[0]]}
			count[path[0]]++
			found[head] = line
		case unstable.Table: // [sensor.options] belongs to the last [[sensor]]
			head = entryKey{table: path[0], index: count[path[0]] - 1}
			if len(path) > 1 {
				head.key = path[1]
				found[head] = line
			}
		case unstable.KeyValue:
			at := head
			if at.key == "" {
				at.key = path[0]
			}
			if _, ok := found[at]; !ok {
				found[at] = line
			}
		}
	}
	return found
}

// keyOf returns the dotted key of an expression and its line.
func keyOf(p *unstable.Parser, e *unstable.Node) (path []string, line int) {
	for it := e.Key(); it.Next(); {
		n := it.Node()
		if line == 0 {
			line = p.Shape(n.Raw).Start.Line
		}
		path = append(path, string(n.Data))
	}
	return path, line
}
