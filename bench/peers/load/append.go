// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"os"
	"path/filepath"
)

// appender is the plain way to keep readings: each is appended to a file, which is then fsynced.
type appender struct {
	file *os.File
	all  [][]byte
	next int
	n    int64
}

func openAppender(s Spec) (client, error) {
	f, err := os.Create(filepath.Join(s.Dir, "readings.jsonl"))
	return &appender{file: f, all: messages()}, err
}

func (a *appender) do(_ context.Context, t Task, m *meter) error {
	m.onDisk = func() int64 { return a.n }
	m.start()
	for range t.Readings {
		n, err := a.file.Write(append(a.all[a.next%pool], '\n'))
		a.next++
		a.n += int64(n)
		if err := errors.Join(err, a.file.Sync()); err != nil {
			return err
		}
	}
	m.stop(t.Readings)
	return nil
}

func (a *appender) close() error { return a.file.Close() }
