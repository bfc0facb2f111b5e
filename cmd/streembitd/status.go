// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/streembit/edge/cmd/internal/cli"
)

// errNotRunning: nobody answers on the status socket.
var errNotRunning = errors.New("streembitd is not running with this state folder")

const statusSocket = "status.sock"

// serveStatus answers every connection on the state folder's socket with one JSON document, until ctx ends.
func serveStatus(ctx context.Context, state string, status func() any) (wait func() error, err error) {
	return serveSocket(ctx, filepath.Join(state, statusSocket), func(_ context.Context, conn net.Conn) { answerStatus(conn, status()) })
}

// serveSocket hands every connection on a socket to answer, which closes it, until ctx ends; wait returns when the last one is answered.
func serveSocket(ctx context.Context, path string, answer func(context.Context, net.Conn)) (wait func() error, err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("removing old socket: %w", err)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", path, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	var tasks sync.WaitGroup
	var failed error
	tasks.Go(func() {
		defer stop()
		defer func() { _ = l.Close() }()
		for {
			conn, err := l.Accept()
			if err != nil {
				if ctx.Err() == nil {
					failed = fmt.Errorf("serving %s: %w", path, err)
				}
				return
			}
			tasks.Go(func() { answer(ctx, conn) })
		}
	})
	return func() error { tasks.Wait(); return failed }, nil
}

func answerStatus(conn net.Conn, status any) {
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	_ = json.NewEncoder(conn).Encode(status) // a technician who hung up needs no answer
	_ = conn.Close()
}

// askStatus returns the JSON that the running program gives.
func askStatus(ctx context.Context, state string) ([]byte, error) {
	conn, err := dialSocket(ctx, filepath.Join(state, statusSocket))
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	data, err := io.ReadAll(conn)
	return data, errors.Join(err, conn.Close())
}

// dialSocket speaks with the running program. The error is errNotRunning if there is none.
func dialSocket(ctx context.Context, path string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, errNotRunning
	}
	if err != nil {
		return nil, fmt.Errorf("speaking with streembitd: %w", err)
	}
	return conn, nil
}

func newStatusCommand() *cobra.Command {
	var state string
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Show what the running streembitd does: sensors, outbox, store, peers",
		Args:  cli.Args(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			data, err := askStatus(c.Context(), state)
			if err != nil {
				return err
			}
			if asJSON {
				_, err := c.OutOrStdout().Write(data)
				return err
			}
			var s status
			if err := json.Unmarshal(data, &s); err != nil {
				return fmt.Errorf("reading status: %w", err)
			}
			s.print(c.OutOrStdout())
			return nil
		},
	}
	c.Flags().StringVar(&state, "state", defaultState, "state folder")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
