package directory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mpr/company"
)

// A hold asks the gateways to keep calls of a company waiting while it changes over. It is a
// record of a bucket of its own, since placements are packed and holds are few. It is a
// courtesy, no lock: the fences decide, whether a gateway holds or not.

// Hold is what gateways hear of a company that changes over.
type Hold struct {
	Company company.ID `json:"company"`
	// Move tells one hold from another.
	Move string `json:"move"`
	// Until is when gateways stop waiting by themselves: whoever set the hold may be dead.
	Until time.Time `json:"until,omitzero"`
	// Placement is where the company lives from now on, once the hold is over.
	Placement *company.Placement `json:"placement,omitempty"`
}

const (
	// holdsKept is for how long the record of a hold is kept, and longestHold bounds a hold: the
	// clock of whoever asked for it may be ahead of ours.
	holdsKept   = time.Hour
	longestHold = 10 * time.Second
	// leaseFor is how long a gateway is waited for after its last sign of life.
	leaseFor  = 5 * time.Second
	leaseBeat = time.Second
)

// Hold asks all gateways to hold calls of the company. It answers a channel on which those
// that do are named.
func (d *Directory) Hold(ctx context.Context, h Hold) (confirmed <-chan string, end func(), err error) {
	names := make(chan string, 64)
	sub, err := d.js.Conn().Subscribe(d.confirmations(h), func(m *nats.Msg) {
		select {
		case names <- string(m.Data):
		default: // more than anybody waits for
		}
	})
	if err != nil {
		return nil, nil, Unavailable(err)
	}
	end = func() { _ = sub.Unsubscribe() } // where the connection is closed, so is this
	// The server must know of the subscription before the first gateway answers.
	if err := d.js.Conn().FlushWithContext(ctx); err != nil {
		end()
		return nil, nil, Unavailable(err)
	}
	if err := d.putHold(ctx, h); err != nil {
		end()
		return nil, nil, err
	}
	return names, end, nil
}

// Release ends a hold: the calls go to where the company lives now.
func (d *Directory) Release(ctx context.Context, move string, p company.Placement) error {
	return d.putHold(ctx, Hold{Company: p.Company, Move: move, Placement: &p})
}

func (d *Directory) putHold(ctx context.Context, h Hold) error {
	data, err := json.Marshal(h)
	if err != nil {
		return fmt.Errorf("hold: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	_, err = d.holds.Put(ctx, h.Company.String(), data)
	return Unavailable(err)
}

func (d *Directory) confirmations(h Hold) string { return confirmations(d.holds.Bucket(), h) }

// confirmations is the subject on which gateways say that they hold.
func confirmations(bucket string, h Hold) string { return "mpr.held." + bucket + "." + h.Move }

// Gateways lists the gateways that are alive.
func (d *Directory) Gateways(ctx context.Context) ([]string, error) {
	lister, err := d.gateways.ListKeys(ctx)
	if errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, nil
	}
	if err != nil {
		return nil, Unavailable(err)
	}
	var names []string
	for name := range lister.Keys() {
		names = append(names, name)
	}
	return names, nil
}

// holding is what a replica knows of a hold.
type holding struct {
	move string
	over chan struct{} // closed when it is over
}

// Held answers a channel that is closed once the company may be called again; nil where
// nothing holds it. It takes no lock and allocates nothing.
func (r *Replica) Held(id company.ID) <-chan struct{} {
	held := r.held.Load()
	if held == nil {
		return nil
	}
	if h, ok := (*held)[id]; ok {
		return h.over
	}
	return nil
}

func (r *Replica) applyHold(e Entry) {
	if e.Value == nil {
		return // it was over long ago
	}
	var h Hold
	if err := json.Unmarshal(e.Value, &h); err != nil || h.Company.String() != e.Key {
		slog.Error("leaving out a hold that isn't one", "key", e.Key, "error", err)
		return
	}
	left := time.Until(h.Until)
	switch {
	case h.Placement != nil:
		r.Learn(*h.Placement)
		r.endHold(h.Company, "")
	case left > 0:
		r.beginHold(h, min(left, longestHold))
		if name := r.gateway.Load(); name != nil {
			// A gateway whose word doesn't arrive isn't waited for.
			_ = r.nc.Publish(confirmations(BucketName("holds", r.environment), h), []byte(*name))
		}
	}
}

func (r *Replica) beginHold(h Hold, left time.Duration) {
	r.write.Lock()
	defer r.write.Unlock()
	held := map[company.ID]*holding{}
	if old := r.held.Load(); old != nil {
		maps.Copy(held, *old)
	}
	if before := held[h.Company]; before != nil {
		if before.move == h.Move {
			return // heard before
		}
		close(before.over)
	}
	held[h.Company] = &holding{h.Move, make(chan struct{})}
	r.held.Store(&held)
	time.AfterFunc(left, func() { r.endHold(h.Company, h.Move) })
}

// endHold ends a company's hold: that of a move, or any where move is "".
func (r *Replica) endHold(id company.ID, move string) {
	r.write.Lock()
	defer r.write.Unlock()
	old := r.held.Load()
	if old == nil || (*old)[id] == nil || move != "" && (*old)[id].move != move {
		return
	}
	held := maps.Clone(*old)
	delete(held, id)
	close((*old)[id].over)
	if len(held) == 0 {
		r.held.Store(nil)
		return
	}
	r.held.Store(&held)
}

// Sign is a gateway's sign of life.
type Sign struct {
	// Name tells gateways apart; it is another one after each start.
	Name string
	// At is when it came, by the clock of the directory's server.
	At time.Time
	// Said is what the gateway tells of itself.
	Said []byte
}

// maxSigns bounds what is kept of signs of life, and maxSaid what a gateway may tell.
const (
	maxSigns = 1000
	maxSaid  = 64 << 10
)

// Signs are the last signs of life of the gateways that are alive, by name.
func (d *Directory) Signs(ctx context.Context) ([]Sign, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	var all []Sign
	err := each(ctx, d.gateways, func(entry jetstream.KeyValueEntry) error {
		if len(all) < maxSigns {
			all = append(all, Sign{entry.Key(), entry.Created(), entry.Value()})
		}
		return nil
	}, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(a, b Sign) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Gate makes the replica that of a gateway: it tells movers that it is there, and that it
// holds what they ask it to. name is that of the process; say, which may be nil, answers what it
// tells of itself with each sign of life, about every second.
func (r *Replica) Gate(name string, say func() []byte) {
	r.gateway.Store(&name)
	r.saving.Go(func() { r.beat(name, say) })
}

// beat gives signs of life until the replica is closed.
func (r *Replica) beat(name string, say func() []byte) {
	beat := time.NewTicker(leaseBeat)
	defer beat.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		var said []byte
		if say != nil {
			said = say()
		}
		if len(said) > maxSaid {
			slog.Warn("a gateway tells too much of itself", "bytes", len(said))
			said = nil
		}
		if err := r.signOfLife(ctx, name, said); err != nil {
			slog.Debug("no sign of life", "error", err) // movers won't wait for it
		}
		select {
		case <-r.stop:
			return
		case <-beat.C:
		}
	}
}

func (r *Replica) signOfLife(ctx context.Context, name string, said []byte) error {
	ctx, cancel := context.WithTimeout(ctx, leaseBeat)
	defer cancel()
	js, err := jetstream.New(r.nc)
	if err != nil {
		return err
	}
	// A message to the bucket's subject is a record of it, and opening the bucket is spared.
	_, err = js.Publish(ctx, "$KV."+BucketName("gateways", r.environment)+"."+name, said)
	return err
}
