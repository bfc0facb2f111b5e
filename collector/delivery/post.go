// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// StatusError is an HTTP answer that is no success.
type StatusError struct {
	Status int
	Text   string // the beginning of the answer
	later  time.Duration
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("the server answers %d %s", e.Status, http.StatusText(e.Status))
	if e.Text != "" {
		text += ": " + e.Text
	}
	return text
}

// After is how long the server wants us to wait.
func (e *StatusError) After() time.Duration { return e.later }

// Unwrap returns ErrRefused where the answer blames what was sent: it is malformed, too large or cannot be processed (RFC 9110 §15.5).
func (e *StatusError) Unwrap() error {
	switch e.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return ErrRefused
	}
	return nil
}

// Post sends a request. An answer that is not of 200 to 299 is a *StatusError.
func Post(c *http.Client, req *http.Request) error {
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 512))
	if resp.StatusCode < 300 && resp.StatusCode >= 200 {
		_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20)) // so that the connection can be used again
		return err
	}
	e := &StatusError{Status: resp.StatusCode, Text: strings.TrimSpace(string(body))}
	if s, bad := strconv.Atoi(resp.Header.Get("Retry-After")); bad == nil && s > 0 {
		e.later = time.Duration(min(s, 3600)) * time.Second
	} else if at, bad := http.ParseTime(resp.Header.Get("Retry-After")); bad == nil {
		e.later = max(time.Until(at), 0)
	}
	if err != nil && e.Text == "" {
		e.Text = err.Error()
	}
	return e
}
