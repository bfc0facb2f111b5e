// SPDX-License-Identifier: Apache-2.0

// Package nats is the collector's sink for NATS JetStream. Each segment is a message of SenML JSON (RFC 8428) on the subject
// PREFIX.DEVICE.STREAM, stored by the stream before the next one of its chain is sent; its Nats-Msg-Id never changes, so that the
// stream drops what comes twice within its window.
package nats

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/streembit/edge/collector/delivery"
	"github.com/streembit/edge/internal/nap"
)

// Config says where the server is. URL is required.
type Config struct {
	URL         string // nats://host:4222 or tls://host:4222; several with commas between
	User        string // "" = none
	Password    string // of User; without a user it is a token
	Credentials string // path of a .creds file, "" = none
	TLS         *tls.Config
	Stream      string // "" = "STREEMBIT"; made if it is not there
	Prefix      string // of the subjects; "" = "streembit"
	// Retry is delivery.Options.Retry.
	Retry time.Duration
}

// window is for how long a stream that we make knows the ids of its messages: longer than a collector's restart takes.
const window = 10 * time.Minute

var errNotYet = errors.New("not connected yet")

// wait is how long the server has for an answer.
const wait = 10 * time.Second

type server struct {
	cfg  Config
	conn *client.Conn
	js   jetstream.JetStream

	mu    sync.Mutex
	last  error              // why there is no connection
	ready bool               // the stream is there
	link  context.Context    // ends with the present connection
	cut   context.CancelFunc // of link
}

// Open returns a sink that connects to the server by itself, whether it is there now or not. checkpoints is the file that remembers
// what the stream has stored.
func Open(ctx context.Context, cfg Config, checkpoints string) (*delivery.Sink, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	s := &server{cfg: cfg, last: errNotYet}
	s.link, s.cut = context.WithCancel(context.Background())
	var err error
	if s.conn, err = client.Connect(cfg.URL, s.options()...); err != nil {
		return nil, fmt.Errorf("nats: %w", s.explain(err))
	}
	if s.js, err = jetstream.New(s.conn); err != nil {
		s.conn.Close()
		return nil, fmt.Errorf("nats: %w", err)
	}
	store, err := delivery.OpenStore(ctx, checkpoints)
	if err != nil {
		s.conn.Close()
		return nil, fmt.Errorf("nats: %w", err)
	}
	sink, err := delivery.New(ctx, store, s, delivery.Options{PerSegment: true, Rows: 2000, Retry: cfg.Retry})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("nats: %w", err), s.Close(), store.Close())
	}
	return sink, nil
}

func (c *Config) complete() error {
	for one := range strings.SplitSeq(c.URL, ",") {
		u, err := url.Parse(strings.TrimSpace(one))
		if err != nil || u.Host == "" {
			return fmt.Errorf("nats: address %q: want one like nats://nats.example:4222", one)
		}
		if u.User != nil {
			return errors.New("nats: the address holds a user or a password: give them beside it")
		}
	}
	if c.Stream == "" {
		c.Stream = "STREEMBIT"
	}
	if c.Prefix == "" {
		c.Prefix = "streembit"
	}
	if strings.ContainsAny(c.Prefix, "*> \t") || strings.ContainsAny(c.Stream, ".*> \t/\\") {
		return fmt.Errorf("nats: stream %q, prefix %q: neither may hold *, > or spaces, and a stream no dot", c.Stream, c.Prefix)
	}
	return nil
}

// options keep the connection for ever; nothing is buffered while it is away, since the collector keeps it.
func (s *server) options() []client.Option {
	opts := []client.Option{
		client.Name("streembit collector"), client.RetryOnFailedConnect(true), client.MaxReconnects(-1), client.ReconnectBufSize(-1),
		client.ReconnectWait(200 * time.Millisecond), client.Timeout(5 * time.Second), client.IgnoreAuthErrorAbort(),
		client.ConnectHandler(s.connected), client.ReconnectHandler(s.connected), client.DisconnectErrHandler(s.disconnected),
		client.ReconnectErrHandler(func(_ *client.Conn, err error) { s.failed(err) }),
		client.ErrorHandler(func(_ *client.Conn, _ *client.Subscription, err error) { s.failed(err) }),
	}
	switch {
	case s.cfg.Credentials != "":
		opts = append(opts, client.UserCredentials(s.cfg.Credentials))
	case s.cfg.User != "":
		opts = append(opts, client.UserInfo(s.cfg.User, s.cfg.Password))
	case s.cfg.Password != "":
		opts = append(opts, client.Token(s.cfg.Password))
	}
	if s.cfg.TLS != nil {
		opts = append(opts, client.Secure(s.cfg.TLS))
	}
	return opts
}

func (s *server) connected(*client.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut()
	s.link, s.cut = context.WithCancel(context.Background())
	s.last = nil
}

// disconnected ends what waits for an answer: none will come.
func (s *server) disconnected(_ *client.Conn, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut()
	if err != nil {
		s.last = err
	}
}

func (s *server) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = err
}

// explain adds what to do about an error.
func (s *server) explain(err error) error {
	s.mu.Lock()
	last := s.last
	s.mu.Unlock()
	if last != nil && !errors.Is(err, last) {
		err = fmt.Errorf("%w: %w", last, err)
	}
	switch {
	case errors.Is(err, client.ErrAuthorization), errors.Is(err, client.ErrAuthExpired), strings.Contains(strings.ToLower(err.Error()), "authorization violation"):
		return fmt.Errorf("the server refuses user %q: check user and password, token or credentials: %w", s.cfg.User, err)
	case errors.Is(err, client.ErrPermissionViolation):
		return fmt.Errorf("user %q lacks a right: let it publish %s.> and $JS.API.STREAM.*.%s: %w", s.cfg.User, s.cfg.Prefix, s.cfg.Stream, err)
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return fmt.Errorf("the server has no JetStream: start it with one, nats-server -js: %w", err)
	case !s.conn.IsConnected():
		return fmt.Errorf("no connection to %s: check that the server runs and that the address is right: %w", s.cfg.URL, err)
	}
	return err
}

// prepare makes the stream if it is not there; one that is there stays as somebody has made it.
func (s *server) prepare(ctx context.Context) error {
	s.mu.Lock()
	ready := s.ready
	s.mu.Unlock()
	if ready {
		return nil
	}
	_, err := s.js.Stream(ctx, s.cfg.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		_, err = s.js.CreateStream(ctx, jetstream.StreamConfig{Name: s.cfg.Stream, Description: "readings, written by the Streembit collector",
			Subjects: []string{s.cfg.Prefix + ".>"}, Storage: jetstream.FileStorage, Duplicates: window})
	}
	if err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return fmt.Errorf("stream %s: %w", s.cfg.Stream, s.explain(err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ready = true
	return nil
}

// Ping asks for the stream and whether it takes our subjects.
func (s *server) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	for !s.conn.IsConnected() && ctx.Err() == nil {
		s.mu.Lock()
		last := s.last
		s.mu.Unlock()
		if last != nil && !errors.Is(last, errNotYet) {
			return fmt.Errorf("nats: %w", s.explain(last))
		}
		nap.For(ctx, 20*time.Millisecond)
	}
	s.mu.Lock()
	s.ready = false // it may have been removed
	s.mu.Unlock()
	if err := s.prepare(ctx); err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	name, err := s.js.StreamNameBySubject(ctx, s.cfg.Prefix+".ping.main")
	switch {
	case err != nil:
		return fmt.Errorf("nats: stream %s does not take the subjects %s.>: add them to it, or choose another prefix: %w", s.cfg.Stream, s.cfg.Prefix, s.explain(err))
	case name != s.cfg.Stream:
		return fmt.Errorf("nats: the subjects %s.> go to stream %s, not to %s: name that one, or choose another prefix", s.cfg.Prefix, name, s.cfg.Stream)
	}
	return nil
}

// tooLarge is JetStream's error code for a message beyond the stream's limit.
const tooLarge = jetstream.ErrorCode(10054)

// Send stores the readings of a segment.
func (s *server) Send(ctx context.Context, p delivery.Parcel) error {
	pack, err := p.SenML()
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	s.mu.Lock()
	link := s.link
	s.mu.Unlock()
	defer context.AfterFunc(link, cancel)()
	if err := s.prepare(ctx); err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	m := client.NewMsg(s.cfg.Prefix + "." + p.Chain.Device.String() + "." + subject(p.Chain.Stream))
	m.Data = pack
	m.Header.Set("Content-Type", delivery.ContentType)
	m.Header.Set("Streembit-Chain", p.Chain.String())
	m.Header.Set("Streembit-Name", p.Name)
	_, err = s.js.PublishMsg(ctx, m, jetstream.WithMsgID(p.ID()), jetstream.WithExpectStream(s.cfg.Stream), jetstream.WithRetryAttempts(0))
	var api *jetstream.APIError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, client.ErrMaxPayload), errors.As(err, &api) && api.ErrorCode == tooLarge:
		return fmt.Errorf("nats: %w: %d bytes: %w", delivery.ErrRefused, len(pack), err)
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		s.mu.Lock()
		s.ready = false // somebody has removed the stream: it is made again
		s.mu.Unlock()
		err = fmt.Errorf("stream %s does not take subject %s: %w", s.cfg.Stream, m.Subject, err)
	}
	return fmt.Errorf("nats: %w", s.explain(err))
}

// subject makes a token of a subject out of a name that may hold dots.
func subject(name string) string { return strings.ReplaceAll(name, ".", "_") }

// Close closes the connection; everything sent was acknowledged.
func (s *server) Close() error {
	s.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cut()
	return nil
}
