package limit

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mpr/directory"
)

// Windows follow the clock, are shifted by app, and end when their reset says so.
func TestWindows(t *testing.T) {
	for k := range kinds {
		for _, shift := range []uint32{0, 1, 9, 10, 3599, 3600, 1<<32 - 1} {
			before, reset := k.at(1_800_000_000, shift)
			for unix := int64(1_800_000_001); unix < 1_800_000_000+2*spans[k]; unix++ {
				window, next := k.at(unix, shift)
				switch {
				case next <= unix || next > unix+spans[k]:
					t.Fatalf("at %d window %d ends at %d", unix, window, next)
				case unix < reset && (window != before || next != reset), unix == reset && window != before+1:
					t.Fatalf("at %d it is window %d until %d; before %d until %d", unix, window, next, before, reset)
				case unix == reset:
					before, reset = window, next
				}
			}
		}
	}
	if window, reset := hourly.at(-1, 0); window != -1 || reset != 0 {
		t.Errorf("before 1970: window %d until %d", window, reset)
	}
	for _, client := range []string{"", "a", "F6KLKTB3WWVCPPGGB6OO53GNPH"} {
		h := fnv.New32a()
		_, _ = h.Write([]byte(client))
		if shiftOf(client) != h.Sum32() {
			t.Errorf("the shift of %q is %d; every gateway must have %d", client, shiftOf(client), h.Sum32())
		}
	}
}

func TestPairs(t *testing.T) {
	var p pair
	p.add(7)
	p.add(7)
	p.add(8)
	p.raise(tally{8, 5})
	p.raise(tally{8, 3}) // late
	p.raise(tally{6, 9}) // over
	if p.in(7) != 2 || p.in(8) != 5 || p.in(6) != 0 || p.last() != (tally{8, 5}) {
		t.Errorf("%v", p)
	}
	p.add(9)
	if p.in(7) != 0 || p.in(8) != 5 || p.in(9) != 1 {
		t.Errorf("%v", p)
	}
}

// alone is a gateway without others.
func alone(t *testing.T, all Limits) (*town, *gateway) {
	t.Helper()
	w := newTown(t, all)
	return w, w.gateways(1)[0]
}

// "Two windows: an hour, and a 10-second spike; the headers show the one nearer to its limit."
func TestHeadersShowTheNearerWindow(t *testing.T) {
	w, g := alone(t, Limits{Hour: 12, Spike: 5})
	hourEnds := func() int64 { _, reset := hourly.at(w.clock.unix.Load(), shiftOf("app")); return reset }
	spikeEnds := func() int64 { _, reset := spike.at(w.clock.unix.Load(), shiftOf("app")); return reset }
	w.clock.unix.Store(hourEnds()) // a fresh hour
	w.clock.unix.Store(spikeEnds())
	take := func(want Verdict) {
		t.Helper()
		want.Limited = true
		if got := g.Take(t.Context(), "app"); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	for left := int64(4); left >= 0; left-- {
		take(Verdict{Span: 10 * time.Second, Limit: 5, Remaining: left, Reset: spikeEnds()})
	}
	w.clock.skip(3)
	take(Verdict{Refused: true, Span: 10 * time.Second, Limit: 5, Reset: spikeEnds(), RetryAfter: 7 * time.Second})
	w.clock.skip(7)
	for left := int64(4); left >= 2; left-- {
		take(Verdict{Span: 10 * time.Second, Limit: 5, Remaining: left, Reset: spikeEnds()})
	}
	w.clock.skip(10)
	for left := int64(3); left >= 0; left-- {
		take(Verdict{Span: time.Hour, Limit: 12, Remaining: left, Reset: hourEnds()})
	}
	until := time.Duration(hourEnds()-w.clock.unix.Load()) * time.Second
	take(Verdict{Refused: true, Span: time.Hour, Limit: 12, Reset: hourEnds(), RetryAfter: until})
	take(Verdict{Refused: true, Span: time.Hour, Limit: 12, Reset: hourEnds(), RetryAfter: until})
	w.clock.unix.Store(hourEnds())
	// What was refused didn't count: the new hour begins with all that it has.
	if v := g.Take(t.Context(), "app"); v.Refused || v.Remaining != 4 {
		t.Errorf("in the next hour: %+v", v)
	}
}

// Each app has limits of its own, which operators set, within moments and for all gateways.
func TestOperatorsSetLimits(t *testing.T) {
	w := newTown(t, Limits{Hour: 100, Spike: 3})
	gateways := w.gateways(2)
	settings := OpenSettings(gateways[0].conn, "test", 1)
	seven, none := int64(7), int64(0)
	_, err := settings.Change(t.Context(), "app", Setting{Spike: &seven, By: "ada"})
	must(t, err)
	now, err := settings.Change(t.Context(), "app", Setting{Hour: &none, By: "bob"})
	must(t, err)
	if *now.Spike != 7 || *now.Hour != 0 || now.By != "bob" {
		t.Errorf("%+v", now)
	}
	for _, g := range gateways {
		eventually(t, "the gateway knows the limits", func() bool { return g.table.Of("app") == Limits{0, 7} })
	}
	if n := burst(t.Context(), "app", gateways, 20, 20); n != 7 {
		t.Errorf("%d calls of the app were let through", n)
	}
	if n := burst(t.Context(), "other", gateways, 20, 20); n != 3 {
		t.Errorf("%d calls of another app were let through", n)
	}
	must(t, settings.Reset(t.Context(), "app"))
	for _, g := range gateways {
		eventually(t, "the gateway knows the limits", func() bool { return g.table.Of("app") == w.all })
	}
	if v := gateways[0].Take(t.Context(), "app"); !v.Refused || v.Limit != 3 {
		t.Errorf("with a lower limit than what was used: %+v", v)
	}
	if s, err := settings.Setting(t.Context(), "app"); err != nil || s != (Setting{}) {
		t.Errorf("after a reset: %+v, %v", s, err)
	}
}

// What operators have set is in a backup of the directory: nothing else could tell it again.
func TestLimitsAreInABackup(t *testing.T) {
	w := newTown(t, Limits{Hour: 100, Spike: 3})
	g := w.gateways(1)[0]
	seven := int64(7)
	settings := OpenSettings(g.conn, "test", 1)
	for _, app := range []string{"app", "forgotten"} {
		_, err := settings.Change(t.Context(), app, Setting{Spike: &seven, By: "ada"})
		must(t, err)
	}
	must(t, settings.Reset(t.Context(), "forgotten"))
	var backup bytes.Buffer
	_, err := directory.Backup(t.Context(), g.conn, &backup)
	must(t, err)

	empty := newTown(t, w.all)
	restored := empty.gateways(1)[0]
	_, err = directory.Restore(t.Context(), restored.conn, 1, &backup)
	must(t, err)
	eventually(t, "the gateway knows the limits", func() bool { return restored.table.Of("app") == Limits{100, 7} })
	settings = OpenSettings(restored.conn, "test", 1)
	if s, err := settings.Setting(t.Context(), "app"); err != nil || s.By != "ada" {
		t.Errorf("restored: %+v, %v", s, err)
	}
	if s, err := settings.Setting(t.Context(), "forgotten"); err != nil || s != (Setting{}) {
		t.Errorf("one that was taken back: %+v, %v", s, err)
	}
}

// An app without limits isn't counted, and its answers say nothing.
func TestNoLimit(t *testing.T) {
	_, g := alone(t, Limits{})
	if v := g.Take(t.Context(), "app"); v != (Verdict{}) {
		t.Errorf("%+v", v)
	}
}

// The copy on disk has what operators have set; one that is damaged is left out.
func TestCopyOnDisk(t *testing.T) {
	w := newTown(t, Limits{Hour: 100, Spike: 10})
	file := filepath.Join(t.TempDir(), "limits")
	g := w.open(w.url, file)
	one := int64(1)
	_, err := OpenSettings(g.conn, "test", 1).Change(t.Context(), "app", Setting{Spike: &one})
	must(t, err)
	eventually(t, "the gateway knows", func() bool { return g.table.Of("app").Spike == 1 })
	g.close()
	away, err := directory.Connect([]string{"nats://127.0.0.1:1"}, "", "away")
	must(t, err)
	t.Cleanup(away.Close)
	open := func(environment string) Limits {
		table := Follow(away, environment, file, w.all)
		defer func() { must(t, table.Close()) }()
		return table.Of("app")
	}
	if got := open("test"); got != (Limits{100, 1}) {
		t.Errorf("from the copy: %+v", got)
	}
	if got := open("another"); got != w.all {
		t.Errorf("from the copy of another environment: %+v", got)
	}
	for _, damaged := range []string{"", "{", `{"environment":"test","apps":{"app":{"spike":-1}}}`, `[]`} {
		must(t, os.WriteFile(file, []byte(damaged), 0o600))
		if got := open("test"); got != w.all {
			t.Errorf("from a damaged copy %q: %+v", damaged, got)
		}
	}
}

// Memory is bounded: calls of more apps than there is room for aren't counted, and apps
// whose hour is over make room.
func TestBoundedApps(t *testing.T) {
	w := newTown(t, Limits{Hour: 1})
	g := w.gateways(1)[0]
	g.maxApps = 3
	for i := range 3 {
		if v := g.Take(t.Context(), fmt.Sprint(i)); !v.Limited || v.Refused {
			t.Errorf("app %d: %+v", i, v)
		}
	}
	for range 2 {
		if v := g.Take(t.Context(), "one more"); v != (Verdict{}) {
			t.Errorf("%+v", v)
		}
	}
	w.clock.skip(3600)
	eventually(t, "the apps are forgotten", func() bool { return g.tracked.Load() == 0 })
	if v := g.Take(t.Context(), "one more"); !v.Limited {
		t.Errorf("with room again: %+v", v)
	}
}

// Messages of others that say what can't be change nothing, and take no memory for good.
func TestStrangeMessages(t *testing.T) {
	w := newTown(t, Limits{Hour: 100, Spike: 10})
	g := w.gateways(1)[0]
	window, _ := spike.at(w.clock.unix.Load(), shiftOf("app"))
	for _, text := range []string{
		"", "null", "[]", "{}", `{"from":"x"}`, `{"from":"x","word":"shout"}`, `{"word":"hello"}`,
		`{"from":"x","word":"ask"}`, `{"from":"x","word":"answer","apps":[{"c":"app"},{"c":"app"}]}`,
		`{"from":"x","word":"counts","apps":[{"c":""}]}`,
		`{"from":"x","word":"counts","apps":[{"c":"app","s":[1,-5]}]}`,
		`{"from":"x","word":"counts","apps":[{"c":"app","s":[1,99999999999]}]}`,
		`{"from":"` + strings.Repeat("x", maxName+1) + `","word":"hello"}`,
		`{"from":"x","word":"counts","apps":[` + strings.Repeat(`{"c":"app"},`, maxEntries) + `{"c":"app"}]}`,
		`{"from":"x","word":"hello","to":"` + strings.Repeat(" ", maxMessage) + `"}`,
	} {
		if _, err := readMessage([]byte(text)); err == nil {
			t.Errorf("%.80s was taken for a message", text)
		}
		g.hear([]byte(text))
	}
	if k, _ := g.known(); len(k.peers) != 0 {
		t.Fatalf("garbled messages have made gateways: %d", len(k.peers))
	}
	// Of windows that aren't near.
	for _, far := range []int64{-1 << 63, 0, window - 2, window + 2, 1<<63 - 1} {
		g.hear(fmt.Appendf(nil, `{"from":"x","word":"counts","apps":[{"c":"app","s":[%d,10]}]}`, far))
	}
	g.hear([]byte(`{"from":"x","word":"bye"}`))
	if v := g.Take(t.Context(), "app"); v.Refused || v.Remaining != 9 {
		t.Errorf("%+v", v)
	}
	g.hear(fmt.Appendf(nil, `{"from":"x","word":"counts","apps":[{"c":"app","s":[%d,4]}]}`, window))
	g.hear([]byte(`{"from":"x","word":"bye"}`))
	if v := g.Take(t.Context(), "app"); v.Refused || v.Remaining != 4 {
		t.Errorf("with what another has counted: %+v", v)
	}
	for i := range 2 * maxPeers {
		g.hear(fmt.Appendf(nil, `{"from":"made up %d","word":"bye"}`, i))
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.peers) > maxPeers {
		t.Errorf("%d gateways are remembered", len(g.peers))
	}
}

func FuzzMessage(f *testing.F) {
	for _, seed := range []string{
		`{"from":"x","word":"counts","apps":[{"c":"app","h":[500000,5],"s":[180000000,5],"w":true}]}`,
		`{"from":"x","word":"counts","apps":[{"c":"app","h":[500000,5],"s":[180000000,5],"of":"y"}]}`,
		`{"from":"x","word":"ask","ask":1,"apps":[{"c":"app","h":[500000,5],"s":[180000000,5],"w":true}]}`,
		`{"from":"x","word":"answer","to":"me","ask":1,"apps":[{"c":"app","h":[500000,5],"s":[180000000,5]}]}`,
		`{"from":"x","word":"hello"}`, `{"from":"x","word":"bye"}`, `{`, `null`,
	} {
		f.Add([]byte(seed))
	}
	conn, err := directory.Connect([]string{"nats://127.0.0.1:1"}, "", "fuzz")
	must(f, err)
	f.Cleanup(conn.Close)
	clock := newClock()
	table := Follow(conn, "test", "", Limits{Hour: 100, Spike: 10})
	f.Cleanup(func() { must(f, table.Close()) })
	l := newLimiter(Options{Conn: conn, Environment: "test", Table: table, Now: clock.now, MaxApps: 50})
	f.Fuzz(func(t *testing.T, data []byte) {
		l.hear(data)
		if v := l.Take(t.Context(), "app"); v.Remaining < 0 || v.Remaining > v.Limit {
			t.Errorf("%+v", v)
		}
		if n := l.tracked.Load(); n > 50 {
			t.Errorf("%d apps", n)
		}
		clock.skip(1)
	})
}

// A call costs no allocation, whether its app is near a limit or not.
func BenchmarkTake(b *testing.B) {
	conn, err := directory.Connect([]string{"nats://127.0.0.1:1"}, "", "bench")
	must(b, err)
	b.Cleanup(conn.Close)
	for name, limits := range map[string]Limits{"allowed": {MaxLimit, MaxLimit}, "refused": {1, 1}} {
		b.Run(name, func(b *testing.B) {
			table := Follow(conn, "test", "", limits)
			b.Cleanup(func() { must(b, table.Close()) })
			l := newLimiter(Options{Conn: conn, Environment: "test", Table: table, Now: time.Now})
			clients := make([]string, 100)
			for i := range clients {
				clients[i] = fmt.Sprintf("CLIENT%020d", i)
				l.Take(b.Context(), clients[i])
			}
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					l.Take(b.Context(), clients[i%len(clients)])
				}
			})
		})
	}
}
