// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/time/rate"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Members on one LAN find each other by multicast DNS with neither hub nor internet. A question asks for one member by a name that is made for it alone:
//
//	nonce 8 bytes, SHA-256("streembit/lan/1", fleet, member, nonce) 16 bytes, in hex, below serviceName
//
// Only who knows both ids can make or recognise one, no two are alike, and no clock is needed: boards without one that lost the internet must find each other. A
// question is answered once, so that who repeats it learns nothing, by the addresses of the network on which it came. An answer is a hint, for dials on that
// network alone, and the handshake proves who is there.
const (
	lanNonce   = 8
	lanTag     = 16
	lanWait    = 700 * time.Millisecond // for an answer
	lanAsk     = 200 * time.Millisecond // between questions
	lanKept    = 4096                   // nonces that a member remembers
	lanAnswers = 8                      // addresses of one answer
)

// lanName is the name of a member for one question.
func lanName(f journal.FleetID, member edge.ID, nonce []byte) string {
	h := sha256.New()
	h.Write([]byte("streembit/lan/1\x00"))
	h.Write(f[:])
	h.Write(member[:])
	h.Write(nonce)
	return hex.EncodeToString(nonce) + hex.EncodeToString(h.Sum(nil)[:lanTag]) + "." + serviceName
}

// lanQuestion makes a question and returns the name in it.
func lanQuestion(f journal.FleetID, member edge.ID) (packet []byte, text string, err error) {
	nonce := make([]byte, lanNonce)
	rand.Read(nonce)
	text = lanName(f, member, nonce)
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{})
	name, err := dnsmessage.NewName(text)
	if err == nil {
		err = errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{Name: name, Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}))
	}
	if err != nil {
		return nil, "", fmt.Errorf("p2p: asking for a member: %w", err)
	}
	packet, err = b.Finish()
	return packet, text, err
}

// parseLANQuestion reads a question of anybody on the LAN: its id, the name and the nonce in it.
func parseLANQuestion(packet []byte) (id uint16, name string, nonce []byte, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(packet)
	if err != nil || h.Response || h.OpCode != 0 {
		return 0, "", nil, false
	}
	q, err := p.Question()
	if err != nil || q.Type != dnsmessage.TypeTXT {
		return 0, "", nil, false
	}
	label, found := strings.CutSuffix(strings.ToLower(q.Name.String()), "."+serviceName)
	raw, err := hex.DecodeString(label)
	if !found || err != nil || len(raw) != lanNonce+lanTag {
		return 0, "", nil, false
	}
	return h.ID, label + "." + serviceName, raw[:lanNonce], true
}

// lanAnswer makes the answer to a question.
func lanAnswer(id uint16, text string, addrs []string) ([]byte, error) {
	name, err := dnsmessage.NewName(text)
	if err != nil {
		return nil, fmt.Errorf("p2p: answering a member: %w", err)
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, Response: true, Authoritative: true})
	txt := dnsmessage.TXTResource{}
	size := 0
	for _, a := range addrs[:min(len(addrs), lanAnswers)] {
		if size += len(a) + 1; len(a) <= 250 && size <= maxTexts {
			txt.TXT = append(txt.TXT, a)
		}
	}
	err = errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{Name: name, Type: dnsmessage.TypeTXT, Class: dnsmessage.ClassINET}), b.StartAnswers(),
		b.TXTResource(dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET}, txt))
	if err != nil {
		return nil, fmt.Errorf("p2p: answering a member: %w", err)
	}
	return b.Finish()
}

// parseLANAnswer reads an answer of anybody on the LAN: the name that was asked for, and the addresses.
func parseLANAnswer(packet []byte) (name string, addrs []ma.Multiaddr, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(packet)
	if err != nil || !h.Response || p.SkipAllQuestions() != nil {
		return "", nil, false
	}
	rh, err := p.AnswerHeader()
	if err != nil || rh.Type != dnsmessage.TypeTXT {
		return "", nil, false
	}
	txt, err := p.TXTResource()
	if err != nil || len(txt.TXT) > lanAnswers {
		return "", nil, false
	}
	for _, t := range txt.TXT {
		a, err := ma.NewMultiaddr(t)
		if err != nil {
			return "", nil, false
		}
		addrs = append(addrs, a)
	}
	return rh.Name.String(), addrs, true
}

// onNetwork leaves the addresses of one network, without what lies behind a relay.
func onNetwork(addrs []ma.Multiaddr, index int) []ma.Multiaddr {
	return slices.DeleteFunc(directOf(addrs), func(a ma.Multiaddr) bool {
		ip, err := manet.ToIP(a)
		return err != nil || ip.IsLinkLocalUnicast() || !onLink(ip, index) // libp2p dials no address with a zone
	})
}

// seenNonces remembers the last questions that were answered. Safe for concurrent use.
type seenNonces struct {
	mu   sync.Mutex
	all  map[string]bool
	ring []string
	next int
}

// first reports whether a nonce is new.
func (s *seenNonces) first(nonce []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := string(nonce)
	if s.all[key] {
		return false
	}
	if len(s.ring) < lanKept {
		s.ring = append(s.ring, key)
	} else {
		delete(s.all, s.ring[s.next])
		s.ring[s.next] = key
		s.next = (s.next + 1) % lanKept
	}
	s.all[key] = true
	return true
}

// lanResponder answers those that ask for a member by the name that is made for it. addrs is asked for each answer.
func lanResponder(fleet func() journal.FleetID, self edge.ID, addrs func() []ma.Multiaddr, log *slog.Logger) responder {
	seen := &seenNonces{all: map[string]bool{}}
	pace := rate.NewLimiter(20, 40)
	return func(packet []byte, index int, single bool) ([]byte, bool) {
		id, name, nonce, ok := parseLANQuestion(packet)
		if !ok || !single || subtle.ConstantTimeCompare([]byte(name), []byte(lanName(fleet(), self, nonce))) != 1 || !pace.Allow() || !seen.first(nonce) {
			return nil, false
		}
		var texts []string
		for _, a := range onNetwork(addrs(), index) {
			texts = append(texts, a.String())
		}
		if len(texts) == 0 {
			return nil, false
		}
		answer, err := lanAnswer(id, name, texts)
		if err != nil {
			log.Debug("a member's question was not answered", "err", err)
		}
		return answer, err == nil
	}
}

// startLAN has the node answer members that look for it.
func (n *Node) startLAN() (io.Closer, error) {
	return announce(n.life, lanResponder(func() journal.FleetID { return n.o.Fleet().ID() }, n.self, func() []ma.Multiaddr {
		own, err := n.parts.swarm.InterfaceListenAddresses()
		if err != nil {
			n.log.Debug("own addresses not listed", "err", err)
		}
		return own
	}, n.log), n.log)
}

// findOnLAN returns addresses that somebody on this machine's networks gives for a member, as soon as there are any.
func (n *Node) findOnLAN(ctx context.Context, member edge.ID) ([]ma.Multiaddr, error) {
	ctx, cancel := context.WithTimeout(ctx, lanWait)
	defer cancel()
	var asked sync.Map // names
	var found []ma.Multiaddr
	err := inquire(ctx, lanAsk, func() ([]byte, error) {
		packet, name, err := lanQuestion(n.o.Fleet().ID(), member)
		asked.Store(name, true)
		return packet, err
	}, func(packet []byte, index int) bool {
		name, addrs, ok := parseLANAnswer(packet)
		if !ok {
			return true
		}
		if _, mine := asked.LoadAndDelete(name); mine { // one answer to each question
			found = append(found, onNetwork(addrs, index)...)
		}
		return len(found) == 0
	})
	if err != nil {
		return nil, fmt.Errorf("p2p: asking the local network: %w", err)
	}
	if len(found) == 0 {
		return nil, errNotOnLAN
	}
	return found, nil
}

var errNotOnLAN = errors.New("nobody there answers to its name")
