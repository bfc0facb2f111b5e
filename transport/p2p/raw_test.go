// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	bhost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/p2p"
)

// rawHost is an ordinary libp2p host that shares no code with package p2p.
type rawHost struct {
	*bhost.BasicHost
	key journal.SoftKey
}

func must[T any](t testing.TB, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newRawHost(t testing.TB) rawHost {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	return newRawHostWith(t, must(t, priv, err), tcpAddr)
}

func newRawHostWith(t testing.TB, key ed25519.PrivateKey, listen string) rawHost {
	t.Helper()
	sk, err := crypto.UnmarshalEd25519PrivateKey(key)
	must(t, sk, err)
	id, err := peer.IDFromPrivateKey(sk)
	must(t, id, err)
	ps, err := pstoremem.NewPeerstore()
	must(t, ps, err)
	if err := ps.AddPrivKey(id, sk); err != nil {
		t.Fatal(err)
	}
	bus := eventbus.NewBus()
	sw, err := swarm.NewSwarm(id, ps, bus)
	must(t, sw, err)
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	secure, err := noise.New(noise.ID, sk, muxers)
	must(t, secure, err)
	up, err := upgrader.New([]sec.SecureTransport{secure}, muxers, nil, nil, nil)
	must(t, up, err)
	tr, err := tcp.NewTCPTransport(up, nil, nil)
	must(t, tr, err)
	if err := sw.AddTransport(tr); err != nil {
		t.Fatal(err)
	}
	if err := sw.Listen(ma.StringCast(listen)); err != nil {
		t.Fatal(err)
	}
	h, err := bhost.NewHost(sw, &bhost.HostOpts{EventBus: bus})
	must(t, h, err)
	h.Start()
	t.Cleanup(func() { h.Close() })
	return rawHost{h, journal.NewSoftKey(key)}
}

// dial connects to a node.
func (h rawHost) dial(t testing.TB, n *p2p.Node) peer.ID {
	t.Helper()
	id, err := peer.IDFromBytes(n.ID().Bytes())
	must(t, id, err)
	info := peer.AddrInfo{ID: id}
	for _, a := range n.Addrs() {
		info.Addrs = append(info.Addrs, ma.StringCast(a))
	}
	if err := h.Connect(deadline(t), info); err != nil {
		t.Fatalf("connecting: %v", err)
	}
	return id
}

// hello tells a node from which boot this is, without which it serves no member, and returns the welcome.
func (h rawHost) hello(t testing.TB, to peer.ID, boot journal.BootID) []byte {
	t.Helper()
	answer, err := h.ask(deadline(t), to, "/streembit/fleet/1", message(t, 'h', []any{boot, "", journal.Hash{}}), readFramed)
	return must(t, answer, err)
}

// ask writes one message on a new stream and returns what comes back, read by read.
func (h rawHost) ask(ctx context.Context, to peer.ID, p protocol.ID, message []byte, read func(*bufio.Reader) ([]byte, error)) ([]byte, error) {
	s, err := h.NewStream(ctx, to, p)
	if err != nil {
		return nil, err
	}
	defer func(s network.Stream) { _ = s.Reset() }(s)
	if err := s.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := s.Write(message); err != nil {
		return nil, err
	}
	return read(bufio.NewReader(s))
}

// framed is the wire form of our own protocols.
func framed(body []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

func readFramed(r *bufio.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(r, body)
	return body, err
}

// kad sends one request of the Kademlia protocol and decodes the answer.
func (h rawHost) kad(ctx context.Context, to peer.ID, p protocol.ID, m *pb.Message) (*pb.Message, error) {
	body, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	message := append(binary.AppendUvarint(nil, uint64(len(body))), body...)
	raw, err := h.ask(ctx, to, p, message, func(r *bufio.Reader) ([]byte, error) {
		n, err := binary.ReadUvarint(r)
		if err != nil {
			return nil, err
		}
		if n > 1<<20 {
			return nil, fmt.Errorf("answer of %d bytes", n)
		}
		body := make([]byte, n)
		_, err = io.ReadFull(r, body)
		return body, err
	})
	if err != nil {
		return nil, err
	}
	answer := &pb.Message{}
	return answer, proto.Unmarshal(raw, answer)
}

// serveKad answers every request of the Kademlia protocol with an empty answer.
func serveKad(s network.Stream) {
	defer func() { _ = s.Close() }()
	r := bufio.NewReader(s)
	for {
		n, err := binary.ReadUvarint(r)
		if err != nil || n > 1<<20 {
			return
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		m := &pb.Message{}
		if proto.Unmarshal(body, m) != nil {
			return
		}
		answer, err := proto.Marshal(pb.NewMessage(m.GetType(), m.GetKey(), 0))
		if err != nil {
			return
		}
		if _, err := s.Write(append(binary.AppendUvarint(nil, uint64(len(answer))), answer...)); err != nil {
			return
		}
	}
}
