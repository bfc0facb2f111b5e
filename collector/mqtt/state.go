// SPDX-License-Identifier: Apache-2.0

package mqtt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector/delivery"
)

// What status topics say.
const (
	online  = "online"
	offline = "offline"
)

// device is what subscribers have been told of a device.
type device struct {
	name   string
	series map[delivery.Series]delivery.Value
	told   bool      // its discovery message is as the series are
	seen   time.Time // when it took its newest reading
	said   string    // what the availability topic says; "" = nothing yet
}

func (s *server) statusTopic() string { return s.cfg.Prefix + "/collector/" + s.cfg.ClientID }

func (s *server) availabilityTopic(id edge.ID) string {
	return s.cfg.Prefix + "/availability/" + id.String()
}

func (s *server) stateTopic(k delivery.Series) string {
	return s.cfg.Prefix + "/state/" + k.Device.String() + "/" + k.Sensor + "/" + k.Quantity
}

// state is the payload of a state topic.
type state struct {
	Value any    `json:"value"`
	Unit  string `json:"unit,omitempty"`
	Time  string `json:"time,omitempty"` // RFC 3339; missing where the device did not know it
}

func payload(v delivery.Value) ([]byte, error) {
	out := state{Value: v.Value, Unit: v.Unit}
	switch v.Kind {
	case edge.Text:
		out.Value = v.Text
	case edge.State:
		out.Value = v.Value == 1
	}
	if v.Wall != 0 {
		out.Time = time.UnixMilli(v.Wall).UTC().Format("2006-01-02T15:04:05.000Z07:00")
	}
	return json.Marshal(out)
}

// taken is when a reading was taken, or for want of that, when it came.
func taken(v delivery.Value) time.Time {
	if v.Wall != 0 {
		return time.UnixMilli(v.Wall)
	}
	return time.UnixMilli(v.Received)
}

// remember takes over what was told before this start.
func (s *server) remember() {
	s.store.Latest(func(k delivery.Series, v delivery.Value) { s.learn(k, v) })
}

// learn takes note of a value. The lock is the caller's, or nobody else is there yet.
func (s *server) learn(k delivery.Series, v delivery.Value) {
	d := s.devices[k.Device]
	if d == nil {
		d = &device{series: map[delivery.Series]delivery.Value{}}
		s.devices[k.Device] = d
	}
	old, there := d.series[k]
	if !there || old.Unit != v.Unit || old.Kind != v.Kind || v.Device != "" && d.name != v.Device {
		d.told = false
	}
	if v.Device != "" {
		d.name = v.Device
	}
	d.series[k] = v
	if at := taken(v); at.After(d.seen) {
		d.seen = at
	}
}

// tell publishes a retained message. One that the broker refuses is given up, and Ping says so: readings must not wait for it.
func (s *server) tell(ctx context.Context, topic string, payload []byte) error {
	err := s.publish(ctx, topic, true, payload, nil)
	if !errors.Is(err, delivery.ErrRefused) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.untold = fmt.Errorf("%s could not be told: %w: let the broker take larger messages", topic, err)
	return nil
}

// states publishes what is new of a device: its discovery message, its values, and that it is on line.
func (s *server) states(ctx context.Context, p *delivery.Parcel) error {
	values := s.store.Newer(p)
	if len(values) == 0 {
		return nil
	}
	s.mu.Lock()
	for k, v := range values {
		s.learn(k, v)
	}
	s.mu.Unlock()
	if err := s.announce(ctx, p.Chain.Device); err != nil {
		return err
	}
	for k, v := range values {
		b, err := payload(v)
		if err != nil {
			return err
		}
		if err := s.tell(ctx, s.stateTopic(k), b); err != nil {
			return err
		}
	}
	return s.store.Keep(ctx, values)
}

// announce publishes a device's discovery message and its availability, where they have changed.
func (s *server) announce(ctx context.Context, id edge.ID) error {
	s.mu.Lock()
	d := s.devices[id]
	now := offline
	if time.Since(d.seen) < s.cfg.Offline {
		now = online
	}
	discover, available := !d.told && s.cfg.Discovery != "", now != d.said
	message, err := s.discovery(id, d)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if discover {
		if err := s.tell(ctx, s.cfg.Discovery+"/device/"+id.String()+"/config", message); err != nil {
			return err
		}
	}
	if available {
		if err := s.tell(ctx, s.availabilityTopic(id), []byte(now)); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d.told, d.said = true, now
	return nil
}

// keep tells everything again after each connect, since a broker may have lost it, and that devices have fallen silent.
func (s *server) keep(ctx context.Context) {
	const pause = time.Second
	tick := time.NewTicker(max(s.cfg.Offline/8, 50*time.Millisecond))
	defer tick.Stop()
	retry := time.NewTimer(0)
	retry.Stop()
	for {
		again := false
		select {
		case <-ctx.Done():
			retry.Stop()
			return
		case <-tick.C:
		case <-s.up:
			again = true
		case <-retry.C:
			again = true
		}
		if err := s.refresh(ctx, again); err != nil && again {
			retry.Reset(pause)
		}
	}
}

// refresh announces the devices that need it; again: all of them and their values, too.
func (s *server) refresh(ctx context.Context, again bool) error {
	if again {
		if err := s.tell(ctx, s.statusTopic(), []byte(online)); err != nil {
			return err
		}
	}
	s.mu.Lock()
	ids := slices.Collect(maps.Keys(s.devices))
	if again {
		for _, d := range s.devices {
			d.told, d.said = false, ""
		}
	}
	s.mu.Unlock()
	for _, id := range ids {
		if err := s.announce(ctx, id); err != nil {
			return err
		}
	}
	if !again {
		return nil
	}
	return s.retain(ctx)
}

// retain publishes the newest values again.
func (s *server) retain(ctx context.Context) error {
	all := map[delivery.Series]delivery.Value{}
	s.mu.Lock()
	for _, d := range s.devices {
		maps.Copy(all, d.series)
	}
	s.mu.Unlock()
	for k, v := range all {
		b, err := payload(v)
		if err != nil {
			return err
		}
		s.mu.Lock()
		same := s.devices[k.Device].series[k] == v
		s.mu.Unlock()
		if !same {
			continue // a newer one was published meanwhile
		}
		if err := s.tell(ctx, s.stateTopic(k), b); err != nil {
			return fmt.Errorf("telling %s again: %w", s.stateTopic(k), err)
		}
	}
	return nil
}
