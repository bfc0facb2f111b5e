// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/proto"
)

const (
	maxAnswer   = 256 << 10        // bytes of a DHT answer: 20 peers of 8 KiB, a head, and room
	answerLimit = 10 * time.Second // a hub answers a DHT request within this
)

// asker sends the DHT's requests in place of kad-dht's own sender, because of what that lets through: an answer to
// PUT_VALUE without a record makes kad-dht v0.42.1 crash on a goroutine of its own, so one faulty hub could take down
// every member. It also bounds an answer to maxAnswer instead of 4 MiB. One stream per request, about 0.1 ms more.
type asker struct {
	host      host.Host
	protocols []protocol.ID
}

func newAsker(h host.Host, protocols []protocol.ID) pb.MessageSenderWithDisconnect {
	return asker{h, protocols}
}

// OnDisconnect has nothing to do: no stream outlives its request.
func (asker) OnDisconnect(context.Context, peer.ID) {}

// SendMessage implements pb.MessageSender; only provider records would use it, which are off.
func (a asker) SendMessage(ctx context.Context, to peer.ID, m *pb.Message) error {
	_, err := a.exchange(ctx, to, m, false)
	return err
}

// SendRequest implements pb.MessageSender.
func (a asker) SendRequest(ctx context.Context, to peer.ID, m *pb.Message) (*pb.Message, error) {
	began := time.Now()
	answer, err := a.exchange(ctx, to, m, true)
	if err != nil {
		return nil, err
	}
	if m.GetType() == pb.Message_PUT_VALUE && answer.GetRecord() == nil {
		return nil, errors.New("p2p: asking DHT: PUT_VALUE answered without a record")
	}
	a.host.Peerstore().RecordLatency(to, time.Since(began))
	return answer, nil
}

func (a asker) exchange(ctx context.Context, to peer.ID, m *pb.Message, answered bool) (*pb.Message, error) {
	s, err := a.host.NewStream(ctx, to, a.protocols...)
	if err != nil {
		return nil, fmt.Errorf("p2p: asking DHT: %w", err)
	}
	defer context.AfterFunc(ctx, func() { _ = s.Reset() })()
	answer, err := converse(s, m, answered)
	if err != nil {
		_ = s.Reset()
		return nil, fmt.Errorf("p2p: asking DHT: %w", errors.Join(ctx.Err(), err))
	}
	_ = s.Close() // the answer is there, whatever becomes of the stream
	return answer, nil
}

// converse writes one length-prefixed message (unsigned varint) and reads one.
func converse(s network.Stream, m *pb.Message, answered bool) (*pb.Message, error) {
	body, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding: %w", err)
	}
	if err := s.SetDeadline(time.Now().Add(answerLimit)); err != nil {
		return nil, fmt.Errorf("setting deadline: %w", err)
	}
	if _, err := s.Write(append(binary.AppendUvarint(nil, uint64(len(body))), body...)); err != nil {
		return nil, fmt.Errorf("writing: %w", err)
	}
	if err := s.CloseWrite(); err != nil {
		return nil, fmt.Errorf("ending request: %w", err)
	}
	if !answered {
		return nil, nil
	}
	r := bufio.NewReader(s)
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	if n > maxAnswer {
		return nil, fmt.Errorf("answer of %d bytes, at most %d allowed: %w", n, maxAnswer, ErrFrame)
	}
	body = make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("reading: %w", err)
	}
	answer := &pb.Message{}
	if err := proto.Unmarshal(body, answer); err != nil {
		return nil, fmt.Errorf("decoding: %w", err)
	}
	return answer, nil
}
