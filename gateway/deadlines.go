package gateway

import (
	"net/http"
	"sync"
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
	control http.ResponseController
	stall   time.Duration

	// mu guards the read side: the request's body is read by the goroutine that sends it,
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
