package gateway

import (
	"math"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// lingerTime is how long a client may go on sending a body that nobody wants, so that it
// can read our answer before the connection ends (RFC 9112 section 9.6).
const lingerTime = time.Second

// deadlines bounds how long a client's connection (HTTP/2: stream) may make no progress.
// They roll: each one is renewed while bytes move, so that a body of any size passes and
// one that stalls doesn't. Renewing costs a timer, so it is done at most every quarter of
// the time that is allowed; a stall is noticed after 1 to 1.5 times that.
type deadlines struct {
	control *http.ResponseController
	stall   time.Duration

	// mu guards the read side: the request's body is read by the transport's goroutine,
	// and a deadline that is set after the call has ended would hit the next one on the
	// same connection.
	mu        sync.Mutex
	frozen    bool
	readAt    time.Time
	readUntil time.Time // the deadline; zero for none
	writeAt   time.Time // only the goroutine of the call
}

// Connections that know no deadlines (those of some tests) do without; that is why the
// errors of the controller's methods say nothing here.

// extendRead renews the deadline for reading the request's body.
func (d *deadlines) extendRead() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now := time.Now(); !d.frozen && now.Sub(d.readAt) > d.stall/4 {
		d.readAt, d.readUntil = now, now.Add(d.stall+d.stall/2)
		_ = d.control.SetReadDeadline(d.readUntil)
	}
}

// clearRead ends the deadline: the body is complete, and from here on the server waits
// for the client to go away or to send its next request.
func (d *deadlines) clearRead() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.frozen && !d.readAt.IsZero() {
		d.readAt, d.readUntil = time.Time{}, time.Time{}
		_ = d.control.SetReadDeadline(time.Time{})
	}
}

// linger lets the server read the rest of a small body, so that the connection can be
// kept, and no longer than that: the answer waits for it.
func (d *deadlines) linger() { d.freezeRead(min(lingerTime, d.stall)) }

// freezeRead sets a last deadline that nothing extends any more.
func (d *deadlines) freezeRead(after time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.frozen, d.readUntil = true, time.Now().Add(after)
	_ = d.control.SetReadDeadline(d.readUntil)
}

// readExpired says whether reading has ended for a deadline of ours.
func (d *deadlines) readExpired() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.readUntil.IsZero() && !time.Now().Before(d.readUntil)
}

// extendWrite renews the deadline for writing the answer.
func (d *deadlines) extendWrite() {
	if now := time.Now(); now.Sub(d.writeAt) > d.stall/4 {
		d.writeAt = now
		_ = d.control.SetWriteDeadline(now.Add(d.stall + d.stall/2))
	}
}

// watch ends a call when the upstream makes no progress although it is the upstream's
// turn: to take more of the request's body, or to send more of the answer's.
type watch struct {
	stall   time.Duration
	timer   *time.Timer
	expired func()
	// Since when it is the upstream's turn, as time since start plus one; 0 where it isn't.
	start           time.Time
	taking, sending atomic.Int64
}

func newWatch(stall time.Duration, expired func()) *watch {
	w := &watch{stall: stall, expired: expired, start: time.Now()}
	w.timer = time.AfterFunc(math.MaxInt64, w.check) // not before check can see the timer
	w.timer.Reset(stall)
	return w
}

func (w *watch) begin(turn *atomic.Int64) { turn.Store(int64(time.Since(w.start)) + 1) }

func (w *watch) end(turn *atomic.Int64) { turn.Store(0) }

func (w *watch) check() {
	now := int64(time.Since(w.start)) + 1
	for _, turn := range []*atomic.Int64{&w.taking, &w.sending} {
		if since := turn.Load(); since != 0 && now-since >= int64(w.stall) {
			w.expired()
			return
		}
	}
	w.timer.Reset(w.stall / 4)
}

// stop may be called more than once. A check that runs meanwhile finds a call that has
// ended, and does no harm.
func (w *watch) stop() { w.timer.Stop() }
