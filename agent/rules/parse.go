// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// ErrSyntax is wrapped by what Parse returns.
var ErrSyntax = errors.New("want: when SENSOR/QUANTITY > NUMBER [and …] [for 60s] then set OUTPUT VALUE [for 5s] [at DEVICE] [and …] [otherwise …]")

// MaxFor bounds every duration of a rule.
const MaxFor = 24 * time.Hour

// Bounds of one rule.
const (
	maxText  = 1000
	maxParts = 8 // conditions, and actions of each kind
)

// Condition compares what a sensor gives.
type Condition struct {
	Of    string // sensor/quantity
	Is    string // one of operators
	Value Value
}

// Value is a number, on or off, or a text: bool, float64 or string.
type Value any

// Act is one thing to do.
type Act struct {
	Set    bool             // a property; else an action is called
	Name   string           // of the property or action
	Value  Value            // of a property, or the one argument of an action, "value"; nil = none
	Args   map[string]Value // of an action
	For    time.Duration    // a property goes back after this; 0 = it stays
	Device string           // name or id; "" = this device
}

// Rule is what a config entry says.
type Rule struct {
	Name      string
	Text      string
	When      []Condition // all must hold …
	For       time.Duration
	Then      []Act
	Otherwise []Act // once they do not hold any more
}

var operators = []string{">", ">=", "<", "<=", "==", "!="}

// Parse reads a rule's text. The error says which word is wrong and wraps ErrSyntax.
func Parse(name, text string) (Rule, error) {
	r := Rule{Name: name, Text: text}
	words, err := split(text)
	p := &parser{words: words}
	if err == nil {
		err = p.rule(&r)
	}
	if err != nil {
		return Rule{}, fmt.Errorf("rules: rule %q: %w: %w", name, err, ErrSyntax)
	}
	return r, nil
}

// split cuts a text into words; one in double quotes may hold spaces.
func split(text string) (words []string, err error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("%d bytes: at most %d", len(text), maxText)
	}
	for text = strings.TrimSpace(text); text != ""; text = strings.TrimSpace(text) {
		end := strings.IndexAny(text, " \t\r\n\"")
		if end < 0 {
			end = len(text)
		}
		word := text[:end]
		if text = text[end:]; text != "" && text[0] == '"' {
			quoted, err := strconv.QuotedPrefix(text)
			if err != nil {
				return nil, errors.New("a quote is not closed")
			}
			word, text = word+quoted, text[len(quoted):]
		}
		words = append(words, word)
	}
	return words, nil
}

type parser struct {
	words []string
	at    int
}

func (p *parser) peek() string {
	if p.at < len(p.words) {
		return p.words[p.at]
	}
	return ""
}

// take moves over a word if it is the next one.
func (p *parser) take(word string) bool {
	if p.peek() != word {
		return false
	}
	p.at++
	return true
}

func (p *parser) next(what string) (string, error) {
	w := p.peek()
	if w == "" {
		return "", fmt.Errorf("it ends where %s should be", what)
	}
	p.at++
	return w, nil
}

func (p *parser) rule(r *Rule) (err error) {
	if !p.take("when") {
		return fmt.Errorf("it begins with %q instead of when", p.peek())
	}
	if r.When, err = list(p, p.condition); err != nil {
		return err
	}
	if p.take("for") {
		if r.For, err = p.duration(); err != nil {
			return err
		}
	}
	if !p.take("then") {
		return fmt.Errorf("%q stands where then should be", p.peek())
	}
	if r.Then, err = list(p, p.act); err != nil {
		return err
	}
	if p.take("otherwise") {
		if r.Otherwise, err = list(p, p.act); err != nil {
			return err
		}
	}
	if p.peek() != "" {
		return fmt.Errorf("%q is too much", p.peek())
	}
	return nil
}

// list reads parts that are joined by and.
func list[T any](p *parser, one func() (T, error)) (all []T, err error) {
	for {
		v, err := one()
		if err != nil {
			return nil, err
		}
		if all = append(all, v); len(all) > maxParts {
			return nil, fmt.Errorf("more than %d parts", maxParts)
		}
		if !p.take("and") {
			return all, nil
		}
	}
}

func (p *parser) condition() (c Condition, err error) {
	if c.Of, err = p.next("a SENSOR/QUANTITY"); err != nil {
		return c, err
	}
	if sensor, quantity, ok := strings.Cut(c.Of, "/"); !ok || sensor == "" || quantity == "" {
		return c, fmt.Errorf("%q: want SENSOR/QUANTITY", c.Of)
	}
	if c.Is, err = p.next("a comparison"); err != nil {
		return c, err
	}
	if !slices.Contains(operators, c.Is) {
		return c, fmt.Errorf("%q: want one of %s", c.Is, strings.Join(operators, " "))
	}
	if c.Value, err = p.value(); err != nil {
		return c, err
	}
	if _, number := c.Value.(float64); !number && c.Is != "==" && c.Is != "!=" {
		return c, fmt.Errorf("%s compares numbers only", c.Is)
	}
	return c, nil
}

func (p *parser) act() (a Act, err error) {
	switch {
	case p.take("set"):
		a.Set = true
	case p.take("call"):
	default:
		return a, fmt.Errorf("%q: want set or call", p.peek())
	}
	if a.Name, err = p.next("a name"); err != nil {
		return a, err
	}
	if a.Set {
		a.Value, err = p.value()
	} else {
		err = p.args(&a)
	}
	if err == nil && p.take("for") {
		if a.For, err = p.duration(); !a.Set && err == nil {
			err = errors.New("only set takes for")
		}
	}
	if err == nil && p.take("at") {
		a.Device, err = p.next("a device")
	}
	return a, err
}

var keywords = []string{"", "and", "for", "then", "otherwise", "at"}

// args reads KEY=VALUE …, or one bare value.
func (p *parser) args(a *Act) error {
	for !slices.Contains(keywords, p.peek()) {
		word := p.peek()
		p.at++
		key, text, named := strings.Cut(word, "=")
		switch {
		case !named && a.Value == nil && a.Args == nil:
			a.Value = valueOf(word)
		case named && a.Value == nil && key != "" && text != "":
			if a.Args == nil {
				a.Args = map[string]Value{}
			}
			if _, twice := a.Args[key]; twice || len(a.Args) == maxParts {
				return fmt.Errorf("%q: each argument once, at most %d", word, maxParts)
			}
			a.Args[key] = valueOf(text)
		default:
			return fmt.Errorf("%q: want KEY=VALUE", word)
		}
	}
	return nil
}

func (p *parser) value() (Value, error) {
	w, err := p.next("a value")
	if err != nil || slices.Contains(keywords, w) {
		return nil, fmt.Errorf("%q stands where a value should be", w)
	}
	return valueOf(w), nil
}

func valueOf(w string) Value {
	switch w {
	case "on", "true":
		return true
	case "off", "false":
		return false
	}
	if n, err := strconv.ParseFloat(w, 64); err == nil && n-n == 0 { // finite
		return n
	}
	if text, err := strconv.Unquote(w); err == nil {
		return text
	}
	return w
}

// duration reads 60s, or 60 s.
func (p *parser) duration() (time.Duration, error) {
	w, err := p.next("a duration")
	if err != nil {
		return 0, err
	}
	if _, err := strconv.ParseFloat(w, 64); err == nil {
		w += p.peek()
		p.at++
	}
	d, err := time.ParseDuration(w)
	if err != nil || d <= 0 || d > MaxFor {
		return 0, fmt.Errorf("duration %q: want for example 60s or 5m, at most %s", w, MaxFor)
	}
	return d, nil
}
