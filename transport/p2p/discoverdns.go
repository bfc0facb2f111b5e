// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/streembit/edge"
)

const (
	serviceName = "_streembit._udp.local."
	maxDNS      = 1500 // bytes of a message, one Ethernet frame
	maxTexts    = 1100 // bytes of addresses in an answer
	lookTTL     = 10   // s (RFC 6762 section 6.7)
)

var errNotLooking = errors.New("p2p: not a question for unclaimed devices")

// question is somebody who looks for devices.
type question struct{ id uint16 }

// look makes the question.
func look() ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{})
	name, err := dnsmessage.NewName(serviceName)
	if err == nil {
		err = errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{Name: name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}))
	}
	if err != nil {
		return nil, fmt.Errorf("p2p: asking for devices: %w", err)
	}
	return b.Finish()
}

// parseLook reads a question of anybody on the LAN.
func parseLook(raw []byte) (question, error) {
	var p dnsmessage.Parser
	h, err := p.Start(raw)
	if err != nil || h.Response || h.OpCode != 0 {
		return question{}, errNotLooking
	}
	for range 16 {
		q, err := p.Question()
		if err != nil {
			return question{}, errNotLooking
		}
		if strings.EqualFold(q.Name.String(), serviceName) && (q.Type == dnsmessage.TypePTR || q.Type == dnsmessage.TypeALL) {
			return question{id: h.ID}, nil
		}
	}
	return question{}, errNotLooking
}

// answer makes the answer: the name of the device, and its key and addresses as texts. One to a single asker repeats its question and id.
func (q question) answer(self Found, single bool) ([]byte, error) {
	h := dnsmessage.Header{Response: true, Authoritative: true}
	if single {
		h.ID = q.id
	}
	b := dnsmessage.NewBuilder(nil, h)
	service, err := dnsmessage.NewName(serviceName)
	if err != nil {
		return nil, fmt.Errorf("p2p: answering: %w", err)
	}
	device, err := dnsmessage.NewName(self.ID.String() + "." + serviceName)
	if err != nil {
		return nil, fmt.Errorf("p2p: answering: %w", err)
	}
	if single {
		err = errors.Join(b.StartQuestions(), b.Question(dnsmessage.Question{Name: service, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET}))
	}
	txt := dnsmessage.TXTResource{TXT: []string{"id=" + self.ID.String()}}
	size := 0
	for _, a := range reachable(self.Addrs) {
		if size += len(a) + 3; len(a) <= 250 && size <= maxTexts {
			txt.TXT = append(txt.TXT, "a="+a)
		}
	}
	head := dnsmessage.ResourceHeader{Name: service, Class: dnsmessage.ClassINET, TTL: lookTTL}
	err = errors.Join(err, b.StartAnswers(), b.PTRResource(head, dnsmessage.PTRResource{PTR: device}))
	head.Name = device
	if err = errors.Join(err, b.TXTResource(head, txt)); err != nil {
		return nil, fmt.Errorf("p2p: answering: %w", err)
	}
	return b.Finish()
}

// parseFound reads an answer of anybody on the LAN. An error says that it is none of a device.
func parseFound(raw []byte) (Found, error) {
	var p dnsmessage.Parser
	h, err := p.Start(raw)
	if err != nil || !h.Response {
		return Found{}, errNotLooking
	}
	if err := p.SkipAllQuestions(); err != nil {
		return Found{}, errNotLooking
	}
	for range 16 {
		rh, err := p.AnswerHeader()
		if err != nil {
			return Found{}, errNotLooking
		}
		if rh.Type != dnsmessage.TypeTXT || !strings.HasSuffix(strings.ToLower(rh.Name.String()), "."+serviceName) {
			if err := p.SkipAnswer(); err != nil {
				return Found{}, errNotLooking
			}
			continue
		}
		txt, err := p.TXTResource()
		if err != nil {
			return Found{}, errNotLooking
		}
		return foundOf(txt.TXT)
	}
	return Found{}, errNotLooking
}

func foundOf(texts []string) (Found, error) {
	var f Found
	for _, t := range texts {
		if id, ok := strings.CutPrefix(t, "id="); ok {
			parsed, err := edge.ParseID(id)
			if err != nil {
				return Found{}, fmt.Errorf("p2p: reading answer: %w", err)
			}
			f.ID = parsed
		}
		if a, ok := strings.CutPrefix(t, "a="); ok {
			if _, err := parseAddrs([]string{a}); err != nil {
				return Found{}, err
			}
			f.Addrs = append(f.Addrs, a)
		}
	}
	if f.ID == (edge.ID{}) || len(f.Addrs) == 0 {
		return Found{}, errNotLooking
	}
	return f, nil
}
