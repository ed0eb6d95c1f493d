package directory

import (
	"context"
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
