// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// operator is appointed with rights; none = everything.
func operator(seed byte, rights ...fleet.Right) fleet.Grant {
	if len(rights) == 0 {
		rights = fleet.Everything()
	}
	return fleet.Grant{Member: id(seed), Name: "operator", Roles: fleet.Operator, Rights: rights}
}

func right(t testing.TB, s string) fleet.Right { return must(fleet.ParseRight(s))(t) }

func labelled(seed byte, labels ...string) fleet.Grant {
	g := device(seed)
	g.Labels = labels
	return g
}

func TestMay_DefaultDeny(t *testing.T) {
	f := must(found(t).Grant(by(1), now, operator(41, right(t, "command switch.* on site=barn,gate"), right(t, "read main")),
		labelled(21, "site=barn"), labelled(22), hub(11)))(t)
	gate := device(23)
	gate.Name = "gate"
	f = must(f.Grant(by(1), now, gate))(t)
	for _, c := range []struct {
		who, on byte
		do      fleet.Verb
		what    string
		want    bool
	}{
		{41, 21, fleet.Command, "switch.0", true}, {41, 21, fleet.Command, "restart", false}, {41, 22, fleet.Command, "switch.0", false},
		{41, 23, fleet.Command, "switch.3", true}, {41, 11, fleet.Command, "switch.3", true}, // the hub's site
		{41, 22, fleet.Read, "main", true}, {41, 22, fleet.Read, "mainly", false}, {41, 22, fleet.Enrol, "device", false},
		{21, 21, fleet.Read, "main", false}, {11, 21, fleet.Read, "main", false}, {99, 21, fleet.Read, "main", false},
		{1, 22, fleet.Command, "restart", true}, {2, 22, fleet.Update, "stable", true},
	} {
		if got := f.May(id(c.who), c.do, id(c.on), c.what); got != c.want {
			t.Errorf("%d %s %s on %d: %t", c.who, c.do, c.what, c.on, got)
		}
	}
}

func TestParseRight(t *testing.T) {
	for _, s := range []string{"read main on *", "command switch.*,restart on site=lab,gateway-7", "enrol device on *"} {
		if got := right(t, s).String(); got != s {
			t.Errorf("%q is read as %q", s, got)
		}
	}
	for _, s := range []string{"", "read", "own *", "read main of lab", "read main on", "read ,", "read main on a b"} {
		if r, err := fleet.ParseRight(s); err == nil {
			t.Errorf("%q is read as %q", s, r)
		}
	}
}

// What an operator may hand on ends where its own rights end, and operators are the owner's to appoint.
func TestGrant_WidenedRights(t *testing.T) {
	limited := operator(41, right(t, "enrol device on site=lab"), right(t, "enrol collector"), right(t, "read main on site=lab"))
	f := must(found(t).Grant(by(1), now, limited, operator(42), hub(11), labelled(29, "site=barn")))(t)
	reads := func(s string) fleet.Grant {
		g := collector(t, 31)
		g.Rights = []fleet.Right{right(t, s)}
		return g
	}
	for name, c := range map[string]struct {
		by    byte
		grant fleet.Grant
		want  error
	}{
		"its own kind":                     {41, labelled(21, "site=lab"), nil},
		"another label":                    {41, labelled(21, "site=barn"), fleet.ErrNotAllowed},
		"another role":                     {41, hub(12), fleet.ErrNotAllowed},
		"both roles":                       {41, func() fleet.Grant { g := labelled(21, "site=lab"); g.Roles |= fleet.Hub; return g }(), fleet.ErrNotAllowed},
		"a right it has":                   {41, reads("read main on site=lab"), nil},
		"on more devices":                  {41, reads("read main on *"), fleet.ErrNotAllowed},
		"to more streams":                  {41, reads("read * on site=lab"), fleet.ErrNotAllowed},
		"another verb":                     {41, reads("command main on site=lab"), fleet.ErrNotAllowed},
		"to itself":                        {41, operator(41), fleet.ErrNotAllowed},
		"a second operator":                {42, operator(43), fleet.ErrNotAllowed},
		"an operator made a device":        {42, device(41), fleet.ErrNotAllowed},
		"by a device":                      {29, device(22), fleet.ErrNotAllowed},
		"by a hub":                         {11, device(22), fleet.ErrNotAllowed},
		"by a stranger (foreign issuer)":   {99, device(99), fleet.ErrNotAllowed},
		"by an operator with everything":   {42, hub(12), nil},
		"the spare owner, without a log":   {2, device(22), fleet.ErrNotAllowed},
		"another name for the same device": {42, func() fleet.Grant { g := labelled(29, "site=barn"); g.Name = "renamed"; return g }(), nil},
	} {
		if _, err := f.Grant(by(c.by), now, c.grant); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// What nobody may say does not count either when it arrives signed.
func TestMerge_IgnoresWhatItsSignerMayNotSay(t *testing.T) {
	f := must(found(t).Grant(by(1), now, operator(41, right(t, "enrol device")), hub(11)))(t)
	say := func(seed byte, g fleet.Grant) [][]byte {
		c := f.LogChain()
		c.Device, c.Incarnation = id(seed), journal.Incarnation{9}
		return [][]byte{fleet.LogEntry(t, c, nil, key(seed), must(journal.Encode(entries(g)))(t), 1)}
	}
	after := must(f.Merge(fleet.Bundle{Logs: [][][]byte{say(41, hub(12)), say(11, device(22)), say(99, device(99))}}))(t)
	if after.IsMember(id(12)) || after.IsMember(id(22)) || after.IsMember(id(99)) {
		t.Error("a self-made or widened grant counts")
	}
	if got := len(after.Parts().Logs); got != 2 || after.Ignored() != 1 { // the owner's and the operator's: no stranger fills our disk
		t.Errorf("%d logs kept, %d entries ignored", got, after.Ignored())
	}
	must(fleet.Open(must(after.Encoded())(t), f.ID()))(t)
}

func TestExpired(t *testing.T) {
	g := device(21)
	g.Expires = now.Add(time.Hour).UnixMilli()
	f := must(found(t).Grant(by(1), now, g, device(22)))(t)
	if !f.IsMember(id(21)) || !f.AsOf(now.Add(-100*time.Hour)).IsMember(id(21)) {
		t.Error("expired before its time: a clock that is behind the owner's does not count")
	}
	later := f.AsOf(now.Add(2 * time.Hour))
	if later.IsMember(id(21)) || later.Is(id(21), fleet.Device) || !later.IsMember(id(22)) || len(later.Members()) != 1 {
		t.Error("an expired grant counts")
	}
	if _, revoked, ok := later.Former(id(21)); !ok || revoked != nil {
		t.Error("an expired member is not known as a former one")
	}
	// the floor makes it expire on a device without a clock
	amended := must(f.Amend(key(1), now.Add(3*time.Hour), noHubs))(t)
	if amended.IsMember(id(21)) || !amended.Floor().Equal(now.Add(3*time.Hour)) {
		t.Error("the owner's time does not end it")
	}
	back := must(amended.Amend(key(1), now, noHubs))(t)
	if !back.IsMember(id(21)) {
		t.Error("an owner cannot take back a wrong clock")
	}
}

// However the logs of three operators arrive, whole or in parts, all members see one fleet.
func TestMerge_OrderDoesNotMatter(t *testing.T) {
	base := must(found(t).Grant(by(1), now, operator(41), operator(42), operator(43)))(t)
	branches := make([]*fleet.Fleet, 3)
	for i := range branches {
		author := by(byte(41 + i))
		mine := device(21) // all three grant the same newcomer, without knowing of each other
		mine.Name = []string{"ann", "bob", "cid"}[i]
		b := must(base.Grant(author, now, mine, device(byte(22+i))))(t)
		b = must(b.Grant(author, now, device(byte(25+i))))(t)
		if i == 2 {
			b = must(b.Revoke(author, now, id(21), nil, "lost"))(t)
		}
		branches[i] = b
	}
	want := journal.Hash{}
	for round := range 20 {
		got := base
		for _, i := range rand.Perm(3) {
			b := branches[i].Delta(got.Digest())
			if round%2 == 1 { // an older part first
				part := fleet.Bundle{Logs: [][][]byte{b.Logs[0][:1]}}
				got = must(got.Merge(part))(t)
				b = branches[i].Delta(got.Digest())
			}
			got = must(got.Merge(b))(t)
		}
		enc := must(got.Encoded())(t)
		if h := got.Digest().Hash(); want == (journal.Hash{}) {
			want = h
		} else if h != want {
			t.Fatal("two members know different fleets")
		}
		f := must(fleet.Open(enc, base.ID()))(t)
		if f.IsMember(id(21)) || len(f.With(fleet.Device)) != 6 {
			t.Fatalf("%d devices, the revoked one is a member: %t", len(f.With(fleet.Device)), f.IsMember(id(21)))
		}
		if !f.Delta(f.Digest()).Empty() {
			t.Error("a member lacks what it has")
		}
	}
}

func TestMerge_KeepsTheFirstOfAFork(t *testing.T) {
	f := must(found(t).Grant(by(1), now, operator(41)))(t)
	mine := must(f.Grant(by(41), now, device(21)))(t)
	other := must(f.Grant(by(41), now, device(22)))(t) // the same life: a copied key
	got, err := mine.Merge(other.Delta(fleet.Digest{}))
	if !errors.Is(err, fleet.ErrFork) || got == nil || !got.IsMember(id(21)) || got.IsMember(id(22)) {
		t.Fatalf("%v", err)
	}
	if b := other.Delta(mine.Digest()); b.Empty() {
		t.Error("the fork stays unseen")
	}
	// The owner names the branch that counts; who has the other one gets it back from those who have this.
	judged := must(other.Revoke(by(1), now, id(41), other.Tips(id(41)), "key copied"))(t)
	got, _ = got.Merge(judged.Delta(got.Digest()))
	if got == nil {
		t.Fatal("the judgement is refused")
	}
	got, err = got.Merge(judged.Delta(got.Digest()))
	if err != nil || got.IsMember(id(21)) || !got.IsMember(id(22)) || got.Digest().Hash() != judged.Digest().Hash() {
		t.Errorf("after the owner's judgement: %v, %t, %t", err, got.IsMember(id(21)), got.IsMember(id(22)))
	}
	// two states of one version
	a, b := must(f.Amend(key(1), now, noHubs))(t), must(f.Amend(key(2), now, noHubs))(t)
	if got, err := a.Merge(b.Delta(a.Digest())); !errors.Is(err, fleet.ErrFork) || got.Digest().State != a.Digest().State {
		t.Errorf("forked fleet state: %v", err)
	}
}

// A grant for a key whose former holder a revocation removed needs to be newer than the revocation.
func TestRevoke(t *testing.T) {
	first := must(found(t).Grant(by(1), now, operator(41), device(21), device(22)))(t)
	chain := journal.Chain{Fleet: first.ID(), Device: id(21), Stream: "main", Incarnation: journal.Incarnation{7}}
	last := fleet.Cut{Stream: "main", Incarnation: chain.Incarnation, Seq: 10, Hash: journal.Hash{1}}
	if err := first.Accepts(chain, 11, journal.Hash{}); err != nil {
		t.Error(err)
	}
	f := must(first.Revoke(by(41), now, id(21), []fleet.Cut{last}, "stolen"))(t)
	other := chain
	other.Incarnation[0]++
	for _, c := range []struct {
		name  string
		chain journal.Chain
		seq   uint64
		hash  journal.Hash
		want  error
	}{
		{"before", chain, 9, journal.Hash{5}, nil}, {"the last", chain, 10, journal.Hash{1}, nil},
		{"another last", chain, 10, journal.Hash{2}, fleet.ErrRevoked}, {"after", chain, 11, journal.Hash{1}, fleet.ErrRevoked},
		{"a chain that is not named", other, 0, journal.Hash{}, fleet.ErrRevoked},
		{"another device", journal.Chain{Device: id(22), Stream: "main"}, 0, journal.Hash{}, nil},
		{"a stranger", journal.Chain{Device: id(99), Stream: "main"}, 0, journal.Hash{}, fleet.ErrNotMember},
		{"an operator", journal.Chain{Device: id(41), Stream: "main"}, 0, journal.Hash{}, fleet.ErrNotMember},
	} {
		if err := f.Accepts(c.chain, c.seq, c.hash); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if f.IsMember(id(21)) || len(f.Revoked()) != 1 || f.Revoked()[0].Reason != "stolen" {
		t.Error("a revoked member counts")
	}
	old := device(21)
	old.Serial = 1
	if f := must(f.Grant(by(41), now, old))(t); f.IsMember(id(21)) {
		t.Error("an old grant, said again, brings a revoked member back")
	}
	again := must(f.Grant(by(41), now, device(21)))(t)
	if !again.IsMember(id(21)) || again.Accepts(chain, 11, journal.Hash{}) == nil || again.Accepts(other, 0, journal.Hash{}) != nil {
		t.Error("granted again: its cut chain is cut, others count")
	}
	if got := must(f.Merge(first.Delta(fleet.Digest{})))(t); got.IsMember(id(21)) {
		t.Error("an older fleet brings a revoked member back")
	}
	if _, err := f.Revoke(by(41), now, id(99), nil, ""); !errors.Is(err, fleet.ErrNotMember) {
		t.Errorf("a stranger revoked: %v", err)
	}
	if _, err := f.Revoke(by(41), now, id(41), nil, ""); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("an operator revokes an operator: %v", err)
	}
}

// What an operator said before its revocation stays; what it says later does not count, in no life of its log.
func TestRevoke_Operator(t *testing.T) {
	f := must(found(t).Grant(by(1), now, operator(41)))(t)
	f = must(f.Grant(by(41), now, device(21)))(t)
	stale := f
	f = must(f.Revoke(by(1), now, id(41), f.Tips(id(41)), "left"))(t)
	if !f.IsMember(id(21)) || f.IsMember(id(41)) {
		t.Error("its grants went with it, or it stayed")
	}
	if _, err := f.Grant(by(41), now, device(22)); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("a revoked operator grants: %v", err)
	}
	for name, author := range map[string]fleet.Author{"the same life": by(41), "a new life": {Key: key(41), Life: journal.Incarnation{77}}} {
		late := must(stale.Grant(author, now, device(22)))(t) // it does not know of its revocation
		got := must(f.Merge(late.Delta(f.Digest())))(t)
		if got.IsMember(id(22)) || !got.IsMember(id(21)) {
			t.Errorf("%s: a grant after the revocation counts", name)
		}
		got, err := late.Merge(f.Delta(late.Digest()))
		if err != nil || got.IsMember(id(22)) || got.Digest().Hash() != f.Digest().Hash() {
			t.Errorf("%s: whoever heard it first keeps it: %v", name, err)
		}
	}
	f = must(f.Grant(by(1), now, operator(41, right(t, "enrol device on site=lab"))))(t)
	again := fleet.Author{Key: key(41), Life: journal.Incarnation{78}}
	if _, err := f.Grant(again, now, device(23)); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("appointed again with less: %v", err)
	}
	f = must(f.Grant(again, now, labelled(23, "site=lab")))(t)
	if !f.IsMember(id(21)) || !f.IsMember(id(23)) {
		t.Error("what it said in its first time, or in its second, does not count")
	}
	f = must(f.Rotate(key(2), [2]edge.ID{id(2), id(3)}, -1, now))(t)
	if !f.IsMember(id(21)) || !f.IsMember(id(23)) || f.IsMember(id(22)) {
		t.Error("a rotation changes what the operator said")
	}
}

func TestPolicy(t *testing.T) {
	f := must(found(t).Grant(by(1), now, operator(41, right(t, "enrol device on site=lab")), hub(11), hub(12)))(t)
	p := fleet.Policy{ID: fleet.TokenID{1}, Executor: id(11), Roles: fleet.Device, Labels: []string{"site=lab"}, Uses: 2,
		Expires: now.Add(time.Hour).UnixMilli()}
	wide := p
	wide.Labels = nil
	if _, err := f.Append(by(41), now, fleet.Entry{Policy: &wide}); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("a policy beyond the operator's rights: %v", err)
	}
	f = must(f.Append(by(41), now, fleet.Entry{Policy: &p}))(t)
	claim := func(seed byte) fleet.Grant {
		g := labelled(seed, "site=lab")
		g.Token = p.ID
		return g
	}
	changed := func(change func(*fleet.Grant)) fleet.Grant { g := claim(24); change(&g); return g }
	for name, c := range map[string]struct {
		by    byte
		at    time.Time
		grant fleet.Grant
	}{
		"another hub":     {12, now, claim(21)},
		"too late":        {11, now.Add(2 * time.Hour), claim(21)},
		"another role":    {11, now, changed(func(g *fleet.Grant) { g.Roles = fleet.Hub })},
		"another label":   {11, now, changed(func(g *fleet.Grant) { g.Labels = nil })},
		"with rights":     {11, now, changed(func(g *fleet.Grant) { g.Rights = []fleet.Right{right(t, "read main")} })},
		"no token":        {11, now, labelled(21, "site=lab")},
		"another token":   {11, now, changed(func(g *fleet.Grant) { g.Token[0]++ })},
		"an old member":   {11, now, changed(func(g *fleet.Grant) { g.Member = id(12) })},
		"a second serial": {11, now, changed(func(g *fleet.Grant) { g.Serial = 2 })},
	} {
		if _, err := f.Grant(by(c.by), c.at, c.grant); !errors.Is(err, fleet.ErrNotAllowed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	f = must(f.Grant(by(11), now, claim(21)))(t)
	f = must(f.Grant(by(11), now, claim(22)))(t)
	if _, err := f.Grant(by(11), now, claim(23)); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("a token used more often than it may: %v", err)
	}
	if _, used, ok := f.Policy(p.ID); !ok || used != 2 || len(f.With(fleet.Device)) != 2 {
		t.Errorf("%d used", used)
	}
	renamed := claim(21)
	renamed.Name = "renamed"
	f = must(f.Grant(by(41), now, renamed))(t)
	if _, used, _ := f.Policy(p.ID); used != 2 || len(f.Find("renamed")) != 1 {
		t.Errorf("renamed by the operator: %d used", used)
	}
	f = must(f.Revoke(by(41), now, id(22), nil, ""))(t)
	if _, err := f.Grant(by(11), now, claim(22)); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("a revoked device comes back with its token: %v", err)
	}
}

func TestReaders_FollowTheRights(t *testing.T) {
	lab := collector(t, 31)
	lab.Rights = []fleet.Right{right(t, "read main on site=lab")}
	f := must(found(t).Grant(by(1), now, lab, collector(t, 32), labelled(21, "site=lab"), labelled(22)))(t)
	for seed, want := range map[byte]int{21: 3, 22: 2} {
		if got := must(f.Readers(id(seed), "main"))(t); len(got) != want {
			t.Errorf("device %d: %d readers, want %d", seed, len(got), want)
		}
	}
	f = must(f.Revoke(by(1), now, id(32), nil, ""))(t)
	if got := must(f.Readers(id(22), "main"))(t); len(got) != 1 {
		t.Errorf("a removed reader still reads: %d readers", len(got))
	}
	rest, want := must(f.Readers(id(21), "main"))(t), must(journal.NewReader(lab.Reader))(t)
	if len(rest) != 2 || rest[1].Fingerprint() != want.Fingerprint() {
		t.Error("the reader that stays is not there")
	}
}
