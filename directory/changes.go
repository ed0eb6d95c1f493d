package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Publish appends changes to the environment's stream. It returns once all of them are
// stored. Repeating it is safe: the stream drops what it has seen in the last minutes,
// and whoever applies the changes drops what it has seen before.
func (d *Directory) Publish(ctx context.Context, changes []Change) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	acks := make([]jetstream.PubAckFuture, 0, len(changes))
	for _, c := range changes {
		value, err := json.Marshal(c)
		if err != nil {
			return fmt.Errorf("publish a change: %w", err)
		}
		ack, err := d.js.PublishAsync(d.subject, value, jetstream.WithMsgID(fmt.Sprintf("%d-%d", c.Company, c.Version)))
		if err != nil {
			return fmt.Errorf("publish a change: %w", Unavailable(err))
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return fmt.Errorf("publish a change: %w", Unavailable(err))
		case <-ctx.Done():
			return fmt.Errorf("publish a change: %w", Unavailable(ctx.Err()))
		}
	}
	return nil
}

const (
	consumeBatch   = 256
	consumeWait    = time.Second
	consumeRetry   = time.Second
	redeliverAfter = 30 * time.Second
)

// Consume hands the stream's changes to apply, in batches, until the context ends. What
// apply has taken without an error is acknowledged; everything else comes again, to this
// process or to another one that consumes under the same durable name.
func (d *Directory) Consume(ctx context.Context, durable string, apply func(context.Context, []Change) error) error {
	for ctx.Err() == nil {
		err := d.consume(ctx, durable, apply)
		if ctx.Err() != nil {
			break
		}
		slog.Warn("reading the changes of the regions; trying again", "error", err)
		_ = pause(ctx, consumeRetry)
	}
	return ctx.Err()
}

func (d *Directory) consume(ctx context.Context, durable string, apply func(context.Context, []Change) error) error {
	consumer, err := d.js.CreateOrUpdateConsumer(ctx, d.stream, jetstream.ConsumerConfig{
		Durable:       durable,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       redeliverAfter,
		MaxAckPending: 4 * consumeBatch,
	})
	if err != nil {
		return Unavailable(err)
	}
	for ctx.Err() == nil {
		if err := d.consumeBatch(ctx, consumer, apply); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// consumeBatch waits for changes and takes all that are there. Waiting for the first one
// alone, rather than for a full batch, keeps the index milliseconds behind.
func (d *Directory) consumeBatch(ctx context.Context, consumer jetstream.Consumer, apply func(context.Context, []Change) error) error {
	// The context ends the waiting, so that a process which stops doesn't wait for it.
	waiting, cancel := context.WithTimeout(ctx, consumeWait)
	defer cancel()
	messages, err := fetch(consumer.Fetch(1, jetstream.FetchContext(waiting)))
	if len(messages) == 0 {
		if waiting.Err() != nil {
			return nil // nothing came, or nobody waits any more
		}
		return err
	}
	// What has come is applied, whatever becomes of the rest: it would come again only after
	// redeliverAfter.
	rest, restErr := fetch(consumer.FetchNoWait(consumeBatch - 1))
	messages = append(messages, rest...)
	changes := make([]Change, 0, len(messages))
	for _, m := range messages {
		var c Change
		if err := json.Unmarshal(m.Data(), &c); err != nil {
			// It would fail for ever and block what stands behind it.
			slog.Error("dropping a change that isn't one", "error", err)
			continue
		}
		changes = append(changes, c)
	}
	if err := apply(ctx, changes); err != nil {
		for _, m := range messages {
			_ = m.NakWithDelay(consumeRetry) // without it, redelivery takes longer
		}
		return fmt.Errorf("apply changes: %w", err)
	}
	for _, m := range messages {
		if err := m.Ack(); err != nil {
			return Unavailable(err) // comes again; applying is idempotent
		}
	}
	return restErr
}

func fetch(batch jetstream.MessageBatch, err error) ([]jetstream.Msg, error) {
	if err != nil {
		return nil, Unavailable(err)
	}
	var messages []jetstream.Msg
	for m := range batch.Messages() {
		messages = append(messages, m)
	}
	if err := batch.Error(); err != nil && !errors.Is(err, jetstream.ErrNoMessages) {
		return messages, Unavailable(err)
	}
	return messages, nil
}
