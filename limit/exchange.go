package limit

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/time/rate"

	"mpr/directory"
)

const (
	// tellEvery is how often a gateway tells what it has counted, and that it is there.
	tellEvery = 200 * time.Millisecond
	// joinFor is how long a gateway that comes listens to what the others have counted.
	joinFor = 150 * time.Millisecond
	// answerWithin is how long the others are waited for, and askAgain when they are asked again
	// after they didn't answer; askPause where they had nothing to give.
	answerWithin = 250 * time.Millisecond
	askAgain     = time.Second
	askPause     = 50 * time.Millisecond
	// quietAfter is when a gateway that isn't heard is no longer asked: it can't be reached,
	// or is dead, and may be counting. forgetAfter is when it is taken for dead.
	quietAfter  = time.Second
	forgetAfter = time.Minute
	// keepGone is how long the name of one that has left is kept: longer than a window.
	keepGone = 2 * time.Hour
	// maxPeers bounds the gateways that are remembered, those that have left included.
	maxPeers = 256
)

// mode says what a gateway hears of the others.
type mode int32

const (
	// cutOff: nothing.
	cutOff mode = iota
	// joining: it has begun to listen.
	joining
	// hearing: all that they say.
	hearing
)

// peer is another gateway.
type peer struct {
	name  string
	state atomic.Int32
	heard time.Time // exchange.mu guards it
}

// The states of a peer.
const (
	live int32 = iota
	quiet
	gone
)

// exchange is what a limiter knows of the other gateways.
type exchange struct {
	mode atomic.Int32
	// view is what calls see of the others, replaced when it changes.
	view atomic.Pointer[known]
	// term counts the times at which the others may have given this gateway up, and shares
	// that it had with it.
	term atomic.Uint64
	// answerWithin is the constant, but in tests.
	answerWithin time.Duration

	mu    sync.Mutex // guards the rest
	peers map[string]*peer
	join  chan struct{} // closed when it has joined, or can't
	since time.Time     // when it began to join
	last  time.Time     // when it looked last
	sub   *nats.Subscription
	sweep int // the shard to be swept next

	asked    atomic.Uint64 // numbers questions
	everyone chan struct{} // somebody wants to know all
	stop     chan struct{}
	once     sync.Once
	running  sync.WaitGroup
}

// bus is where gateways hear one another.
type bus struct {
	conn    *nats.Conn
	subject string
}

// Options are what a limiter needs.
type Options struct {
	Conn *nats.Conn
	// Environment names the apps' environment: the gateways of one count together.
	Environment string
	Table       *Table
	// Now is the clock of the windows.
	Now func() time.Time
	// MaxApps is how many apps are counted at the same time; 0 for the default.
	MaxApps int
}

// New makes a limiter and begins to listen to the other gateways.
func New(o Options) (*Limiter, error) {
	l := newLimiter(o)
	return l, l.start()
}

// start begins to listen.
func (l *Limiter) start() (err error) {
	l.sub, err = l.bus.conn.Subscribe(l.bus.subject, func(m *nats.Msg) { l.hear(m.Data) })
	if err != nil {
		return fmt.Errorf("listen to the other gateways: %w", err)
	}
	l.tick()
	l.running.Go(l.run)
	return nil
}

// newLimiter makes a limiter that hears nobody yet.
func newLimiter(o Options) *Limiter {
	l := &Limiter{
		name: rand.Text(), table: o.Table, now: o.Now, seed: maphash.MakeSeed(), maxApps: int64(o.MaxApps),
		bus:  bus{o.Conn, "mpr." + directory.BucketName(bucketKind, o.Environment)},
		full: rate.Sometimes{First: 1, Interval: time.Minute},
		exchange: exchange{
			answerWithin: answerWithin, peers: map[string]*peer{}, join: make(chan struct{}), last: time.Now(),
			everyone: make(chan struct{}, 1), stop: make(chan struct{}),
		},
	}
	if o.MaxApps == 0 {
		l.maxApps = DefaultMaxApps
	}
	for i := range l.shards {
		l.shards[i].apps = map[string]*app{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.look()
	return l
}

// known answers what is known of the others.
func (l *Limiter) known() (*known, mode) { return l.view.Load(), mode(l.mode.Load()) }

// joined answers what is closed once it is known which other gateways there are.
func (l *Limiter) joined() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.join
}

// look makes the view anew. l.mu is held.
func (l *Limiter) look() {
	v := &known{gateways: 1, name: l.name}
	for _, p := range l.peers {
		if p.state.Load() != gone {
			v.peers = append(v.peers, p)
			v.gateways++
		}
	}
	if mode(l.mode.Load()) == hearing {
		l.table.note(v.gateways)
	} else if before := l.table.gateways.Load(); before > v.gateways {
		v.unseen = before - v.gateways
		v.gateways = before
	}
	l.view.Store(v)
}

func (l *Limiter) run() {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-tick.C:
			l.tick()
			l.forget()
		case <-l.everyone:
			l.tellAll()
		}
	}
}

// tick looks whether the others can be heard, and tells them what has changed.
func (l *Limiter) tick() {
	l.mu.Lock()
	now := time.Now()
	if now.Sub(l.last) > quietAfter {
		l.term.Add(1) // this process stood still, and the others have given it up
	}
	l.last = now
	connected, was := l.bus.conn.IsConnected(), mode(l.mode.Load())
	switch {
	case !connected && was != cutOff:
		l.turn(cutOff)
	case connected && was == cutOff:
		l.since = now
		for _, p := range l.peers {
			p.heard = now // nobody could be heard until now
		}
		l.term.Add(1)
		l.turn(joining)
	case was == joining && now.Sub(l.since) >= joinFor:
		l.turn(hearing)
	}
	began := was == cutOff && mode(l.mode.Load()) == joining
	if connected {
		l.listen(now)
	}
	l.mu.Unlock()
	if began {
		_ = l.send(message{Word: hello}) // where it is lost, the next counts bring what matters
	}
	if connected {
		l.tellChanges()
	}
}

// turn changes the mode. l.mu is held.
func (l *Limiter) turn(to mode) {
	was := mode(l.mode.Swap(int32(to)))
	if to == joining {
		l.join = make(chan struct{})
	} else if was == joining {
		close(l.join)
	}
	l.look()
}

// listen notes which of the others can't be heard. l.mu is held.
func (l *Limiter) listen(now time.Time) {
	changed := false
	for name, p := range l.peers {
		silence := now.Sub(p.heard)
		switch state := p.state.Load(); {
		case state == live && silence > quietAfter:
			p.state.Store(quiet)
		case state == quiet && silence > forgetAfter:
			p.state.Store(gone)
		case state == gone && silence > keepGone:
			delete(l.peers, name) // what it has counted is over
		default:
			continue
		}
		changed = true
	}
	if changed {
		l.look()
	}
}

// peer finds another gateway, or gets to know it; nil where there are too many. alive says
// that it was heard just now.
func (l *Limiter) peer(name string, alive bool) *peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[name]
	if p == nil {
		if len(l.peers) >= maxPeers {
			return nil
		}
		p = &peer{name: name, heard: time.Now()}
		p.state.Store(gone)
		l.peers[name] = p
	}
	if alive {
		p.heard = time.Now()
		if p.state.Swap(live) != live {
			l.look()
		}
	}
	return p
}

// leave notes that a gateway counts no more.
func (l *Limiter) leave(p *peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.state.Store(gone)
	l.look()
}

// hear takes a message of another gateway. What isn't one is left out.
func (l *Limiter) hear(data []byte) {
	m, err := readMessage(data)
	if err != nil {
		slog.Debug("leaving out a message", "error", err)
		return
	}
	if m.From == l.name {
		return
	}
	p := l.peer(m.From, m.Word != bye)
	if p == nil {
		return
	}
	switch m.Word {
	case bye:
		l.leave(p)
	case hello:
		select {
		case l.everyone <- struct{}{}:
		default: // all is told soon anyway
		}
	case counts:
		for i := range m.Apps {
			l.hearCounts(p, &m.Apps[i])
		}
	case ask:
		l.reply(p, m.Ask, &m.Apps[0])
	case answer:
		l.hearAnswer(p, &m)
	}
}

func (l *Limiter) hearCounts(p *peer, e *entry) {
	if e.Of == l.name {
		return
	}
	if e.Of != "" {
		p = l.peer(e.Of, false)
	}
	if p == nil {
		return
	}
	a := l.lock(e.Client)
	if a == nil {
		return
	}
	defer a.mu.Unlock()
	if o := a.hear(p, e, l.now().Unix()); e.Of == "" {
		o.wants = e.Wants
	}
}

// tellChanges tells the others what has changed, and that this gateway is there.
func (l *Limiter) tellChanges() {
	var apps []*app
	for i := range l.shards {
		s := &l.shards[i]
		s.dirty.Lock()
		apps = append(apps, s.tell...)
		clear(s.tell)
		s.tell = s.tell[:0]
		s.dirty.Unlock()
	}
	entries := make([]entry, 0, len(apps))
	for _, a := range apps {
		a.mu.Lock()
		a.changed = false
		entries = append(entries, a.entry(a.newest()))
		a.mu.Unlock()
	}
	l.tell(entries)
}

// tellAll tells the others all that is known, also of gateways that have left: one that has
// just come, maybe in place of one of those, must know it.
func (l *Limiter) tellAll() {
	var entries []entry
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.RLock()
		for _, a := range s.apps {
			a.mu.Lock()
			entries = append(entries, a.entry(a.newest()))
			for j := range a.others {
				if o := &a.others[j]; o.peer.state.Load() != live {
					hour, second := o.counts[hourly].last(), o.counts[spike].last()
					entries = append(entries, entry{Client: a.client, Of: o.peer.name, Hour: [2]int64{hour.Window, hour.N}, Spike: [2]int64{second.Window, second.N}})
				}
			}
			a.mu.Unlock()
		}
		s.mu.RUnlock()
	}
	l.tell(entries)
}

// tell sends counts, in as many messages as it takes; one where there are none.
func (l *Limiter) tell(entries []entry) {
	for {
		n := min(len(entries), maxEntries)
		if l.send(message{Word: counts, Apps: entries[:n]}) != nil || n == len(entries) {
			return // what is lost is told with the next change
		}
		entries = entries[n:]
	}
}

func (l *Limiter) send(m message) error {
	m.From = l.name
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return l.bus.conn.Publish(l.bus.subject, data)
}

// forget forgets apps whose hour is over, a part of them at a time.
func (l *Limiter) forget() {
	s := &l.shards[l.sweep%shards]
	l.sweep++
	unix := l.now().Unix()
	s.mu.Lock()
	defer s.mu.Unlock()
	for client, a := range s.apps {
		a.mu.Lock()
		if a.over(unix) {
			a.evicted = true
			delete(s.apps, client)
			l.tracked.Add(-1)
		}
		a.mu.Unlock()
	}
}

// Close tells the others that this gateway counts no more, and stops listening.
func (l *Limiter) Close() error {
	l.once.Do(func() { close(l.stop) })
	l.running.Wait()
	l.tellChanges()
	_ = l.send(message{Word: bye})
	_ = l.sub.Unsubscribe() // where the connection is closed, so is this
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn(cutOff)
	return nil
}
