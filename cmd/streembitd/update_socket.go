// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/streembit/edge/ota/device"
	"github.com/streembit/edge/ota/trust"
)

// updateSocket is where streembitd update speaks with the program that runs. It lies in the state folder, which only this user may enter.
const updateSocket = "update.sock"

const (
	updateAskLimit = 5 * time.Minute
	maxUpdateAsk   = 8 << 10
)

// updateAsk is one question.
type updateAsk struct {
	Do   string `json:"do"`             // check, from
	Path string `json:"path,omitempty"` // of the bundle
}

// updateAnswer is its answer.
type updateAnswer struct {
	Status device.Status `json:"status"`
	Taken  string        `json:"taken,omitempty"` // version that will be installed
	Error  string        `json:"error,omitempty"`
}

func (p *program) answerUpdate(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(updateAskLimit))
	ctx, cancel := context.WithTimeout(ctx, updateAskLimit)
	defer cancel()
	var ask updateAsk
	if err := json.NewDecoder(&limitedConn{conn, maxUpdateAsk}).Decode(&ask); err != nil {
		return
	}
	answer := p.update(ctx, ask)
	_ = json.NewEncoder(conn).Encode(answer) // a technician who hung up needs no answer
}

// limitedConn ends after so many bytes.
type limitedConn struct {
	net.Conn
	left int
}

// Read implements io.Reader.
func (c *limitedConn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, errors.New("too long")
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, err
}

func (p *program) update(ctx context.Context, ask updateAsk) (answer updateAnswer) {
	u, err := p.updaterOrWhy()
	if err == nil {
		switch ask.Do {
		case "check":
			answer.Status, err = u.Check(ctx)
		case "from":
			answer.Taken, err = p.takeBundle(ctx, u, ask.Path)
			answer.Status = u.Status()
		default:
			err = fmt.Errorf("%q: this program is older or newer than the one that runs: use its own", ask.Do)
		}
	}
	if err != nil {
		answer.Error = err.Error()
	}
	return answer
}

func (p *program) takeBundle(ctx context.Context, u *device.Updater, path string) (string, error) {
	b, err := trust.OpenBundle(path)
	if err != nil {
		return "", fmt.Errorf("%w: if the program may not read it there, copy it into %s", err, p.cfg.State)
	}
	a, err := u.TakeBundle(ctx, b)
	if err = errors.Join(err, b.Close()); err != nil {
		p.record.refused("update-refused", "", path, err)
		return "", err
	}
	p.record.decided("update-from-file", "", path, a.Path)
	return string(a.Version), nil
}

// askUpdate speaks with the running program.
func askUpdate(ctx context.Context, state string, ask updateAsk) (answer updateAnswer, err error) {
	conn, err := dialSocket(ctx, filepath.Join(state, updateSocket))
	if err != nil {
		return answer, err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	_ = conn.SetDeadline(time.Now().Add(updateAskLimit))
	if err := json.NewEncoder(conn).Encode(ask); err != nil {
		return answer, fmt.Errorf("asking about updates: %w", err)
	}
	if err := json.NewDecoder(conn).Decode(&answer); err != nil {
		return answer, fmt.Errorf("asking about updates: %w", err)
	}
	if answer.Error != "" {
		return answer, errors.New(answer.Error)
	}
	return answer, nil
}
