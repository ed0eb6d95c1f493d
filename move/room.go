package move

import (
	"context"
	"fmt"
	"time"
)

// lookForRoom is how often a move that waits for room at its destination looks again.
const lookForRoom = 10 * time.Second

// findRoom waits until the destination has room for the company: more than is asked for here
// the region itself refuses what it can't take, at any time.
func (j *journey) findRoom(ctx context.Context) error {
	waits := j.Bytes > 0 // and its rows were counted before
	to, err := j.to.state(ctx, !waits)
	if err != nil || to.Room == nil {
		return err
	}
	if !waits {
		from, err := j.from.state(ctx, true)
		if err != nil {
			return err
		}
		// What is still there of an earlier stay is used again, or makes room.
		j.note(func(m *Move) { m.Rows, m.Bytes = total(from.Rows), max(from.Bytes-to.Bytes, 1) })
	}
	coming, err := j.Queue.Coming(ctx, j.Environment, j.To)
	if err != nil || j.Bytes <= *to.Room-coming {
		return err
	}
	why := fmt.Sprintf("%s has no room: the company takes about %s, and %s are free there for companies", j.To, Size(j.Bytes), Size(*to.Room))
	if coming > 0 {
		why += fmt.Sprintf(", of which other moves need %s", Size(coming))
	}
	why += ". Make room there, or raise its max_store_bytes if that is the limit: the move goes on by itself. Or give it up: mpr move abort " + j.Company.String()
	if j.Problem == "" {
		if err := j.save(ctx, j.event("waits for room at %s", j.To)); err != nil {
			return err
		}
	}
	j.note(func(m *Move) { m.Problem, m.wake = why, j.Queue.Now().Add(lookForRoom) })
	return errWaits
}

// provesItself has the destination write something, as it will have to once the company is its
// own: a disk that is full then would leave the company without an owner until it isn't.
func (j *journey) provesItself(ctx context.Context) error {
	return j.to.post(ctx, "changes", map[string]any{"changes": []any{}}, nil)
}

// toCome is about how many bytes the move is still to bring.
func (m *Move) toCome() int64 {
	if m.Rows <= 0 {
		return m.Bytes
	}
	return int64(float64(m.Bytes) * float64(max(m.Rows-m.Copied, 0)) / float64(m.Rows))
}

// Size writes a number of bytes for people: 1.2 GB.
func Size(bytes int64) string {
	value, unit := float64(bytes), 0
	for value >= 1000 && unit < 5 {
		value, unit = value/1000, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d bytes", bytes)
	}
	return fmt.Sprintf("%.1f %cB", value, " kMGTP"[unit])
}
