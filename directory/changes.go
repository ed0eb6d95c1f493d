package directory

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
)

// Changes is the stream in which the regions tell the global index what has changed.
type Changes struct{ stream *LateStream }

// OpenChanges prepares an environment's stream of changes. It is opened, or made, when it
// is first needed: that the directory can't be reached yet is no error.
func OpenChanges(nc *nats.Conn, environment string, replicas int) *Changes {
	return &Changes{OpenLateStream(nc, "changes", environment, replicas)}
}

// Publish appends changes to the environment's stream. It returns once all of them are
// stored. Repeating it is safe: the stream drops what it has seen in the last minutes,
// and whoever applies the changes drops what it has seen before.
func (c *Changes) Publish(ctx context.Context, changes []Change) error {
	messages := make([]Message, len(changes))
	for i, change := range changes {
		value, err := json.Marshal(change)
		if err != nil {
			return fmt.Errorf("publish a change: %w", err)
		}
		messages[i] = Message{ID: fmt.Sprintf("%d-%d-%s-%d", change.Company, change.Version, change.Kind, change.Key), Data: value}
	}
	return c.stream.Publish(ctx, messages...)
}

// Made is when the stream was made; it is made where it was lost. One that is made anew has
// forgotten what its reader hadn't heard yet.
func (c *Changes) Made(ctx context.Context) (time.Time, error) { return c.stream.made(ctx) }

// Remake makes the stream anew. Whoever feeds it notices, and tells its reader of everything again.
func (c *Changes) Remake(ctx context.Context) error { return c.stream.remake(ctx) }

// Consume hands the stream's changes to apply, in batches, until the context ends. What
// apply has taken without an error doesn't come again; everything else does, to this
// process or to another one that consumes under the same durable name.
func (c *Changes) Consume(ctx context.Context, durable string, apply func(context.Context, []Change) error) error {
	return c.stream.Consume(ctx, durable, func(ctx context.Context, messages [][]byte) error {
		changes := make([]Change, 0, len(messages))
		for _, data := range messages {
			var change Change
			if err := json.Unmarshal(data, &change); err != nil {
				// It would fail for ever and block what stands behind it.
				slog.Error("dropping a change that isn't one", "error", err)
				continue
			}
			changes = append(changes, change)
		}
		return apply(ctx, changes)
	})
}
