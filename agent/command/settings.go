// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/streembit/edge/fleet"
)

const settingsFile = "settings.json"

// Settings are what the device was told and keeps over restarts. Safe for concurrent use.
type Settings struct {
	path string

	mu sync.Mutex
	v  settings
}

type settings struct {
	Labels    string            `json:"labels,omitempty"`
	Intervals map[string]change `json:"intervals,omitempty"` // by sensor
}

// change is an interval that differs from that of the config, which decides again once somebody changes it there.
type change struct {
	Config string `json:"config"` // what the config said
	Now    string `json:"now"`
}

// OpenSettings reads the settings in a folder; none is all as the config says.
func OpenSettings(dir string) (*Settings, error) {
	s := &Settings{path: filepath.Join(dir, settingsFile), v: settings{Intervals: map[string]change{}}}
	raw, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(raw, &s.v)
	}
	if err != nil {
		return nil, fmt.Errorf("command: reading settings: %w", err)
	}
	if s.v.Intervals == nil {
		s.v.Intervals = map[string]change{}
	}
	return s, nil
}

// Interval returns the interval of a sensor whose config says so much, and whose chip can do so much.
func (s *Settings) Interval(sensor string, config, fastest time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.v.Intervals[sensor]
	d, err := time.ParseDuration(c.Now)
	if !ok || err != nil || c.Config != config.String() || d <= 0 || d < fastest {
		return config
	}
	return d
}

func (s *Settings) setInterval(sensor string, config, now time.Duration) error {
	return s.update(func(v *settings) {
		v.Intervals[sensor] = change{config.String(), now.String()}
		if config == now {
			delete(v.Intervals, sensor)
		}
	})
}

func (s *Settings) labels() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.v.Labels
}

func (s *Settings) setLabels(text string) error {
	return s.update(func(v *settings) { v.Labels = text })
}

func (s *Settings) update(f func(*settings)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.v)
	raw, err := json.MarshalIndent(s.v, "", "  ")
	if err == nil {
		err = fleet.WriteFile(s.path, append(raw, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("command: saving settings: %w", err)
	}
	return nil
}
