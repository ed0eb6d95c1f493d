package directory

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// link makes a connection again after it was lost, or before there was any: soon where the servers
// may be back in a moment, rarely where they have refused us. It tells of each cause once, until
// the connection is there.
type link struct {
	name, servers string
	conn          atomic.Pointer[nats.Conn] // once there is one

	mu      sync.Mutex
	refused bool // the last attempt found a server that didn't want us
	told    map[string]bool
}

const (
	// soonest is how long is waited at first, each time between half of it and half as much again,
	// so that not all come back in the same moment.
	soonest = 200 * time.Millisecond
	// roundsSoon are attempts after which half as many are made, where nobody answers.
	roundsSoon = 16
	// latest is the longest wait where nobody answers, latestRefused where servers refuse us, until
	// somebody mends what they refuse.
	latest        = 2 * time.Second
	latestRefused = 5 * time.Second
	// mostTold bounds the causes that are told of one loss.
	mostTold = 16
)

func (l *link) options() []nats.Option {
	return []nats.Option{
		nats.CustomReconnectDelay(l.delay),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				slog.Warn("the directory can't be reached; going on with the copy", "connection", l.name, "servers", l.servers, "error", err)
			}
		}),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { l.failed(err) }),
		nats.ConnectHandler(func(*nats.Conn) {
			if l.connected() {
				slog.Info("the directory can be reached now", "connection", l.name, "servers", l.servers)
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			l.connected()
			slog.Info("the directory is back", "connection", l.name)
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			if refuses(err) {
				l.failed(err)
				return
			}
			slog.Debug("directory connection", "connection", l.name, "error", err)
		}),
	}
}

// delay is how long to wait after all servers were tried for so many times.
func (l *link) delay(rounds int) time.Duration {
	// The library keeps to itself what a server has said after it took the connection.
	if conn := l.conn.Load(); conn != nil {
		l.failed(conn.LastError())
	}
	l.mu.Lock()
	doublings, most := (rounds-1)/roundsSoon, latest
	if l.refused {
		doublings, most = rounds-1, latestRefused
	}
	l.mu.Unlock()
	wait := min(soonest<<min(doublings, 10), most)
	return wait/2 + rand.N(wait) //nolint:gosec // nobody gains by guessing it
}

// failed notes why an attempt has failed, and tells it unless that was told already.
func (l *link) failed(err error) {
	if err == nil || errors.Is(err, nats.ErrNoServers) { // which only says that others have failed
		return
	}
	l.mu.Lock()
	key := cause(err)
	l.refused = refuses(err) || isTLS(err)
	again := l.told[key] || len(l.told) >= mostTold
	if !again {
		if l.told == nil {
			l.told = map[string]bool{}
		}
		l.told[key] = true
	}
	l.mu.Unlock()
	level, text := slog.LevelWarn, "the directory can't be reached; trying until it can"
	switch {
	case again:
		level, text = slog.LevelDebug, "the directory still can't be reached"
	case refuses(err):
		level, text = slog.LevelError, "the directory refuses what we show: this process and the servers must have the same secret, or what the settings below directory.access say; trying again"
	case isTLS(err):
		level, text = slog.LevelError, "no TLS with the directory; trying again"
	}
	slog.Log(context.Background(), level, text, "connection", l.name, "servers", l.servers, "error", key)
}

// connected notes that the connection is there, and says whether anything was told before.
func (l *link) connected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	told := len(l.told) > 0
	l.refused, l.told = false, nil
	return told
}

// refuses says whether a server has refused what we have shown to it.
func refuses(err error) bool {
	for _, refusal := range []error{nats.ErrAuthorization, nats.ErrAuthExpired, nats.ErrAuthRevoked, nats.ErrAccountAuthExpired} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// isTLS says whether one of both sides doesn't trust the other, or speaks no TLS. The packages that
// know have dozens of types for it, and alerts of the other side have none.
func isTLS(err error) bool {
	text := err.Error()
	return strings.Contains(text, "tls: ") || strings.Contains(text, "x509: ") || strings.Contains(text, "TLS") ||
		errors.Is(err, nats.ErrSecureConnRequired) || errors.Is(err, nats.ErrSecureConnWanted)
}

// cause is an error without what differs each time: our own port.
func cause(err error) string {
	if op, is := errors.AsType[*net.OpError](err); is && op.Source != nil && op.Err != nil {
		return strings.ReplaceAll(err.Error(), op.Source.String()+"->", "")
	}
	return err.Error()
}
