package directory

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
)

// Late is something of the directory that is opened when it is first needed, and tried
// again each time until that succeeds. Whoever has it can start, and start again, while
// the directory is away.
type Late[T any] struct {
	open   func(context.Context) (T, error)
	turn   chan struct{} // holds a token while nobody opens
	opened chan struct{} // closed once there is a value
	value  T
}

// NewLate is what open will answer.
func NewLate[T any](open func(context.Context) (T, error)) *Late[T] {
	l := &Late[T]{open: open, turn: make(chan struct{}, 1), opened: make(chan struct{})}
	l.turn <- struct{}{}
	return l
}

// Get answers the value, and opens it where that hasn't been done yet.
func (l *Late[T]) Get(ctx context.Context) (T, error) {
	select {
	case <-l.opened:
		return l.value, nil
	default:
	}
	var none T
	select {
	case <-ctx.Done():
		return none, Unavailable(ctx.Err())
	case <-l.opened:
		return l.value, nil
	case <-l.turn:
	}
	defer func() { l.turn <- struct{}{} }()
	select {
	case <-l.opened: // while we waited
		return l.value, nil
	default:
	}
	value, err := l.open(ctx)
	if err != nil {
		return none, err
	}
	l.value = value
	close(l.opened)
	return value, nil
}

// Changes is the environment's stream of changes.
type Changes struct{ late *Late[*Directory] }

// LateChanges is the stream of an environment. It is opened, or made, when it is first
// needed: that the directory can't be reached yet is no error.
func LateChanges(nc *nats.Conn, environment string, replicas int) *Changes {
	return &Changes{NewLate(func(ctx context.Context) (*Directory, error) { return Open(ctx, nc, environment, replicas) })}
}

// Publish is [Directory.Publish].
func (c *Changes) Publish(ctx context.Context, changes []Change) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	d, err := c.late.Get(ctx)
	if err != nil {
		return err
	}
	return d.Publish(ctx, changes)
}

// Consume is [Directory.Consume], as soon as the directory can be reached.
func (c *Changes) Consume(ctx context.Context, durable string, apply func(context.Context, []Change) error) error {
	retry := time.NewTicker(consumeRetry)
	defer retry.Stop()
	for told := false; ; {
		d, err := c.late.Get(ctx)
		if err == nil {
			return d.Consume(ctx, durable, apply)
		}
		if !told && ctx.Err() == nil {
			slog.Warn("the changes of the regions can't be read; trying again until they can", "error", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("read the changes of the regions: %w", ctx.Err())
		case <-retry.C:
		}
	}
}
