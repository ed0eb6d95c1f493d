package directory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mpr/problem"
)

// Stream is a durable queue: what is published to it is stored before Publish returns,
// and comes to its reader at least once, across restarts of both.
type Stream struct {
	js   jetstream.JetStream
	name string // of the stream and of its one subject
	what string // what it carries, for messages to operators
	cfg  jetstream.StreamConfig
}

// Message is what a stream carries. The id makes publishing it again harmless for some
// minutes; whoever applies messages must know those that it has applied before.
type Message struct {
	ID   string
	Data []byte
}

// streamKept bounds a stream: readers are milliseconds behind, and who is away for longer
// than this must be filled in another way.
const streamKept = 7 * 24 * time.Hour

// OpenStream opens an environment's stream of a kind, or makes it, with this many copies.
func OpenStream(ctx context.Context, nc *nats.Conn, kind, environment string, replicas int) (*Stream, error) {
	// Without a timeout, acknowledgements that a dying leader never sent would fill the list
	// of those awaited.
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncTimeout(writeTimeout))
	if err != nil {
		return nil, fmt.Errorf("open the stream of %s: %w", kind, err)
	}
	s := &Stream{js: js, name: BucketName(kind, environment), what: kind}
	s.cfg = jetstream.StreamConfig{
		Name:       s.name,
		Subjects:   []string{s.name},
		Storage:    jetstream.FileStorage,
		Replicas:   replicas,
		MaxAge:     streamKept,
		Duplicates: 2 * time.Minute,
	}
	if err := s.make(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// make makes the stream where it is missing, also where it was lost since.
func (s *Stream) make(ctx context.Context) error {
	cfg := s.cfg
	if there, err := s.js.Stream(ctx, s.name); err == nil {
		now := there.CachedInfo().Config
		cfg.Replicas = max(cfg.Replicas, now.Replicas) // never fewer, as of a bucket
		// Whoever opens it finds what another one has made, nearly always: to write that again would
		// have the server work on it beside those who begin to read.
		if now.Replicas == cfg.Replicas && now.MaxAge == cfg.MaxAge && now.Duplicates == cfg.Duplicates && now.Storage == cfg.Storage && slices.Equal(now.Subjects, cfg.Subjects) {
			return nil
		}
	}
	if _, err := s.js.CreateOrUpdateStream(ctx, cfg); err != nil {
		return fmt.Errorf("make the stream %s: %w", s.name, Unavailable(err))
	}
	return nil
}

// made is when the stream was made; it is made where it was lost.
func (s *Stream) made(ctx context.Context) (time.Time, error) {
	there, err := s.js.Stream(ctx, s.name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err := s.make(ctx); err != nil {
			return time.Time{}, err
		}
		there, err = s.js.Stream(ctx, s.name)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("look at the stream of %s: %w", s.what, Unavailable(err))
	}
	return there.CachedInfo().Created, nil
}

// Publish returns once all messages are stored.
func (s *Stream) Publish(ctx context.Context, messages ...Message) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	acks := make([]jetstream.PubAckFuture, 0, len(messages))
	for _, m := range messages {
		ack, err := s.js.PublishAsync(s.name, m.Data, jetstream.WithMsgID(m.ID))
		if err != nil {
			return fmt.Errorf("publish %s: %w", s.what, Unavailable(err))
		}
		acks = append(acks, ack)
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return fmt.Errorf("publish %s: %w", s.what, Unavailable(err))
		case <-ctx.Done():
			return fmt.Errorf("publish %s: %w", s.what, Unavailable(ctx.Err()))
		}
	}
	return nil
}

const (
	consumeBatch   = 256
	consumeRetry   = time.Second
	redeliverAfter = 30 * time.Second
	// toldFor is how long reading goes well before another failure is told of.
	toldFor = 30 * time.Second
)

// MaxInFlight is how many messages a reader may have taken without acknowledging them:
// no message comes again after more than so many later ones.
const MaxInFlight = 4 * consumeBatch

// Consume hands the messages' data to apply, in batches, until the context ends. What
// apply has taken without an error is acknowledged; everything else comes again, to this
// process or to another one that consumes under the same durable name.
func (s *Stream) Consume(ctx context.Context, durable string, apply func(context.Context, [][]byte) error) error {
	var told problem.Told
	for ctx.Err() == nil {
		before := time.Now()
		err := s.consume(ctx, durable, apply)
		if ctx.Err() != nil {
			break
		}
		if time.Since(before) > toldFor { // it went well for a while
			told = problem.Told{}
		}
		if told.Anew(err) {
			slog.Warn("reading a stream; trying again", "stream", s.name, "error", err)
		}
		_ = Pause(ctx, consumeRetry)
	}
	return ctx.Err()
}

func (s *Stream) consume(ctx context.Context, durable string, apply func(context.Context, [][]byte) error) error {
	if err := s.make(ctx); err != nil {
		return err
	}
	consumer, err := s.js.CreateOrUpdateConsumer(ctx, s.name, jetstream.ConsumerConfig{
		Durable:       durable,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       redeliverAfter,
		MaxAckPending: MaxInFlight,
	})
	if err != nil {
		return Unavailable(err)
	}
	for ctx.Err() == nil {
		if err := s.consumeBatch(ctx, consumer, apply); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// consumeBatch waits for messages and takes all that are there. Waiting for the first one
// alone, rather than for a full batch, keeps readers milliseconds behind.
func (s *Stream) consumeBatch(ctx context.Context, consumer jetstream.Consumer, apply func(context.Context, [][]byte) error) error {
	messages, err := s.first(ctx, consumer)
	if len(messages) == 0 {
		return err
	}
	// What has come is applied, whatever becomes of the rest: it would come again only after
	// redeliverAfter.
	rest, restErr := fetch(consumer.FetchNoWait(consumeBatch - 1))
	messages = append(messages, rest...)
	data := make([][]byte, len(messages))
	for i, m := range messages {
		data[i] = m.Data()
	}
	if err := apply(ctx, data); err != nil {
		for _, m := range messages {
			_ = m.NakWithDelay(consumeRetry) // without it, redelivery takes longer
		}
		return fmt.Errorf("apply %s: %w", s.what, err)
	}
	for _, m := range messages {
		if err := m.Ack(); err != nil {
			return Unavailable(err) // comes again; applying is idempotent
		}
	}
	return restErr
}

// first waits for a message, for a while; the end of the context ends the wait.
func (s *Stream) first(ctx context.Context, consumer jetstream.Consumer) ([]jetstream.Msg, error) {
	waiting, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	messages, err := fetch(consumer.Fetch(1, jetstream.FetchContext(waiting)))
	if waiting.Err() != nil {
		return messages, ctx.Err() // there was none
	}
	return messages, err
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

// LateStream is a stream that is opened, or made, when it is first needed: that the
// directory can't be reached yet is no error.
type LateStream struct{ late *Late[*Stream] }

// OpenLateStream prepares an environment's stream of a kind.
func OpenLateStream(nc *nats.Conn, kind, environment string, replicas int) *LateStream {
	return &LateStream{NewLate(func(ctx context.Context) (*Stream, error) { return OpenStream(ctx, nc, kind, environment, replicas) })}
}

// Publish is [Stream.Publish].
func (l *LateStream) Publish(ctx context.Context, messages ...Message) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	s, err := l.late.Get(ctx)
	if err != nil {
		return err
	}
	return s.Publish(ctx, messages...)
}

func (l *LateStream) remake(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	s, err := l.late.Get(ctx)
	if err != nil {
		return err
	}
	if err := s.js.DeleteStream(ctx, s.name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return fmt.Errorf("make the stream of %s anew: %w", s.what, Unavailable(err))
	}
	return s.make(ctx)
}

func (l *LateStream) made(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	s, err := l.late.Get(ctx)
	if err != nil {
		return time.Time{}, err
	}
	return s.made(ctx)
}

// Consume is [Stream.Consume], as soon as the directory can be reached.
func (l *LateStream) Consume(ctx context.Context, durable string, apply func(context.Context, [][]byte) error) error {
	retry := time.NewTicker(consumeRetry)
	defer retry.Stop()
	for told := false; ; {
		s, err := l.late.Get(ctx)
		if err == nil {
			return s.Consume(ctx, durable, apply)
		}
		if !told && ctx.Err() == nil {
			slog.Warn("a stream can't be read; trying again until it can", "error", err)
			told = true
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("read a stream: %w", ctx.Err())
		case <-retry.C:
		}
	}
}
