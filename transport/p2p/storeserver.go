// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

const (
	// maxTaken bounds the bytes of segments that all peers together have between wire and disk.
	maxTaken = 32 << 20
	// silence is how long a member may keep a store stream open without sending.
	silence = 10 * time.Minute
)

// serveStore takes segments from one member. They are stored concurrently, so that they share an fsync, and answered
// in the order in which they came. Whose segments they are is for the store: authority is the device's signature,
// never the sender.
func (n *Node) serveStore(s network.Stream) {
	ctx, cancel := context.WithCancel(n.life)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	answers := make(chan chan error, laneSegments)
	var work sync.WaitGroup
	work.Go(func() {
		if err := n.writeAnswers(s, answers); err != nil {
			n.log.Debug("store stream ended", "peer", s.Conn().RemotePeer(), "err", err)
			cancel() // also ends the reader
		}
	})
	err := n.takeSegments(ctx, s, answers, &work)
	close(answers)
	work.Wait()
	if err != nil {
		n.log.Debug("store stream ended", "peer", s.Conn().RemotePeer(), "err", err)
	}
	_ = s.Close()
}

// takeSegments reads until the member ends the stream or breaks the protocol, which it is told.
func (n *Node) takeSegments(ctx context.Context, s network.Stream, answers chan<- chan error, work *sync.WaitGroup) error {
	r := bufio.NewReaderSize(s, 4<<10) // a segment's bytes pass it by; one for each device that is connected
	for {
		if err := s.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return fmt.Errorf("p2p: setting deadline: %w", err)
		}
		segment, err := readFrame(r, journal.MaxSegment)
		if err != nil && !errors.Is(err, ErrFrame) {
			return err
		}
		answer := make(chan error, 1)
		select {
		case answers <- answer:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err != nil {
			answer <- &transport.Refusal{Hub: n.self, Reason: transport.RefusedInvalid, Detail: err.Error()}
			return err
		}
		if err := n.taken.Acquire(ctx, int64(len(segment))); err != nil {
			answer <- err
			return fmt.Errorf("p2p: waiting for the disk: %w", err)
		}
		work.Go(func() {
			defer n.taken.Release(int64(len(segment)))
			answer <- n.o.Store.Put(ctx, segment)
		})
	}
}

// writeAnswers writes each status in order and sends what it has whenever the next one is not ready yet.
func (n *Node) writeAnswers(s network.Stream, answers <-chan chan error) error {
	w := bufio.NewWriterSize(s, 1<<10)
	for answer := range answers {
		status, err := nextStatus(w, s, answer)
		if err != nil {
			return err
		}
		if err := writeFrame(w, encodeStatus(status)); err != nil {
			return err
		}
		if len(answers) == 0 {
			if err := flush(w, s); err != nil {
				return err
			}
		}
	}
	return flush(w, s)
}

// nextStatus waits for one answer, sending first what was written before if the answer is not there yet.
func nextStatus(w *bufio.Writer, s network.Stream, answer <-chan error) (status, err error) {
	select {
	case status = <-answer:
		return status, nil
	default:
	}
	if err := flush(w, s); err != nil {
		return nil, err
	}
	return <-answer, nil
}

func flush(w *bufio.Writer, s network.Stream) error {
	if w.Buffered() == 0 {
		return nil
	}
	if err := s.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return fmt.Errorf("p2p: setting deadline: %w", err)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("p2p: writing answers: %w", err)
	}
	return nil
}
