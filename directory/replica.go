package directory

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"mpr/company"
	"mpr/rules"
)

// Replica is a copy of an environment's placements, regions and campaign in memory. It follows the
// directory, is written to a file now and then, and starts from that file where the
// directory can't be reached. It may be behind: it is a hint, and the region's fence
// decides.
type Replica struct {
	environment string
	file        string

	placements atomic.Pointer[table]
	regions    atomic.Pointer[regionList]
	campaign   atomic.Pointer[rules.Campaign]
	held       atomic.Pointer[map[company.ID]*holding] // replaced, never changed; nil for none
	gateway    atomic.Pointer[string]                  // the name of the gateway that it is of
	// write orders the writers: the watches and Learn.
	write    sync.Mutex
	dirty    bool
	fromDisk bool

	nc       *nats.Conn
	watches  []*Follower
	placed   *Follower     // that of placements, one of watches
	from     *point        // how far the file had heard of placements; nil where it doesn't say
	saveNow  chan struct{} // holds a token while the file should be written soon
	stop     chan struct{}
	saving   sync.WaitGroup
	stopOnce sync.Once
}

// regionList gives each region an index, which packed placements use. It is replaced,
// never changed; indexes stay.
type regionList struct {
	codes []company.Region
	infos []company.RegionInfo // by index; Upstreams is nil where only the code is known
}

// saveEvery is how often a replica that has changed is written to its file: what a gateway has heard of
// before that it knows after a crash, with or without the directory. A large one, which takes longer to
// write, is written less often: it takes one in saveShare of the time at the most.
const (
	saveEvery = time.Second
	saveShare = 20
)

// OpenReplica starts a replica of the environment's directory, with its copy in file.
// That the directory can't be reached is no error. A copy that can't be read is left
// out, with a warning.
func OpenReplica(nc *nats.Conn, environment, file string) (*Replica, error) {
	return OpenReplicaNear(nc, nil, environment, file)
}

// OpenReplicaNear is [OpenReplica] of a replica that follows mirrors; near may be nil.
func OpenReplicaNear(nc *nats.Conn, near *Near, environment, file string) (*Replica, error) {
	r := &Replica{environment: environment, file: file, nc: nc, stop: make(chan struct{}), saveNow: make(chan struct{}, 1)}
	r.placements.Store(newTable(0))
	r.regions.Store(&regionList{})
	switch err := r.load(); {
	case err == nil:
		r.fromDisk = true
	case !errors.Is(err, fs.ErrNotExist):
		slog.Warn("leaving out the copy of the directory", "file", file, "error", err)
	}
	r.placed = followOn(nc, near, BucketName("placements", environment), r.applyPlacement, r.from)
	r.watches = []*Follower{
		FollowNear(nc, near, BucketName("regions", environment), r.applyRegion),
		r.placed,
		FollowNear(nc, near, BucketName("policy", environment), r.applyPolicy),
		Follow(nc, BucketName("holds", environment), r.applyHold), // for moments only: a mirror would add to them
	}
	r.saving.Go(r.saveNowAndThen)
	return r, nil
}

// Ready waits until the replica is loaded: from the directory or, where that can't be
// reached, from the file.
func (r *Replica) Ready(ctx context.Context) error {
	return Ready(ctx, r.nc, r.fromDisk, r.watches...)
}

// Placement answers where a company lives, as far as the replica knows. It takes no lock
// and allocates nothing.
func (r *Replica) Placement(id company.ID) (company.Placement, bool) {
	v := r.placements.Load().get(id)
	if v == 0 {
		return company.Placement{}, false
	}
	return r.unpack(id, v), true
}

func (r *Replica) unpack(id company.ID, v uint64) company.Placement {
	// The list is loaded after the placement: it holds every index that placements use.
	return company.Placement{
		Company:   id,
		Region:    r.regions.Load().codes[packedRegion(v)],
		Epoch:     packedEpoch(v),
		Onboarded: packedDay(v),
	}
}

// Region answers what is known of a region.
func (r *Replica) Region(code company.Region) (company.RegionInfo, bool) {
	list := r.regions.Load()
	for i, c := range list.codes {
		if c == code && list.infos[i].Upstreams != nil {
			return list.infos[i], true
		}
	}
	return company.RegionInfo{}, false
}

// Regions lists the regions by number.
func (r *Replica) Regions() []company.RegionInfo {
	infos := slices.DeleteFunc(slices.Clone(r.regions.Load().infos), func(i company.RegionInfo) bool { return i.Upstreams == nil })
	slices.SortFunc(infos, func(a, b company.RegionInfo) int { return a.Number - b.Number })
	return infos
}

// Campaign is the campaign in force, which must not be changed; nil where nobody has set
// one. The pointer is another one after each change.
func (r *Replica) Campaign() *rules.Campaign { return r.campaign.Load() }

// Len is the number of placements.
func (r *Replica) Len() int {
	r.write.Lock()
	defer r.write.Unlock()
	return r.placements.Load().used
}

// Age is how long ago the replica was last known to be in step with the directory; a
// very long time if it never was.
func (r *Replica) Age() time.Duration {
	age := time.Duration(0)
	for _, w := range r.watches {
		age = max(age, time.Since(w.InSync()))
	}
	return age
}

// Companies counts the placements in each region. It walks the whole replica: it is for people,
// not for calls.
func (r *Replica) Companies() map[company.Region]int {
	var counts [maxRegions]int
	r.placements.Load().each(func(_ company.ID, v uint64) bool {
		counts[packedRegion(v)]++
		return true
	})
	of := map[company.Region]int{}
	for i, code := range r.regions.Load().codes {
		if counts[i] > 0 {
			of[code] = counts[i]
		}
	}
	return of
}

// Page lists up to limit placements with ids above after, by id, of one region, or of all
// where region is "". It walks the whole replica: it is for lists that people read, not
// for calls.
func (r *Replica) Page(after company.ID, limit int, region company.Region) []company.Placement {
	var page []company.Placement
	byID := func(a, b company.Placement) int {
		switch {
		case a.Company < b.Company:
			return -1
		case a.Company > b.Company:
			return 1
		}
		return 0
	}
	r.placements.Load().each(func(id company.ID, v uint64) bool {
		if id <= after || len(page) == limit && limit > 0 && id > page[limit-1].Company {
			return true
		}
		p := r.unpack(id, v)
		if region != "" && p.Region != region {
			return true
		}
		at, _ := slices.BinarySearchFunc(page, p, byID)
		page = slices.Insert(page, at, p)
		if len(page) > limit {
			page = page[:limit]
		}
		return true
	})
	return page
}

// Learn takes a placement that a region told, ahead of the directory's watch, if its epoch
// is newer than what is there.
func (r *Replica) Learn(p company.Placement) {
	r.write.Lock()
	defer r.write.Unlock()
	old := r.placements.Load().get(p.Company)
	if old != 0 && packedEpoch(old) >= p.Epoch {
		return
	}
	// A region tells where a company went, not when it became a customer.
	if old != 0 && p.Onboarded.IsZero() {
		p.Onboarded = packedDay(old)
	}
	r.put(p)
}

func (r *Replica) applyPlacement(e Entry) {
	if e.Value == nil {
		return // placements are never deleted
	}
	p, err := readPlacement(e.Value)
	if id, idErr := company.ParseID(e.Key); err != nil || idErr != nil || id != p.Company {
		slog.Error("leaving out a placement that isn't one", "key", e.Key, "error", errors.Join(err, idErr))
		return
	}
	r.write.Lock()
	defer r.write.Unlock()
	r.put(p)
}

// put takes a placement unless an older epoch: watches repeat, and a region may have told
// of a change before them. At the same epoch the directory's record wins, since it knows
// more than a region tells. r.write is held.
func (r *Replica) put(p company.Placement) {
	t := r.placements.Load()
	old := t.get(p.Company)
	if p.Company <= 0 || p.Epoch < 1 || p.Epoch > maxEpoch || old != 0 && packedEpoch(old) > p.Epoch {
		return
	}
	index, ok := r.index(p.Region)
	if !ok {
		slog.Error("leaving out a placement: there are too many regions", "region", p.Region)
		return
	}
	v := pack(p, index)
	if v == old {
		return
	}
	if !t.put(p.Company, v) {
		t = t.grown()
		t.put(p.Company, v)
		r.placements.Store(t)
	}
	r.dirty = true
}

// index finds the index of a region, or gives it one. r.write is held.
func (r *Replica) index(code company.Region) (int, bool) {
	list := r.regions.Load()
	if i := slices.Index(list.codes, code); i >= 0 {
		return i, true
	}
	if len(list.codes) == maxRegions {
		return 0, false
	}
	r.regions.Store(&regionList{
		codes: append(slices.Clone(list.codes), code),
		infos: append(slices.Clone(list.infos), company.RegionInfo{Code: code}),
	})
	return len(list.codes), true
}

func (r *Replica) applyRegion(e Entry) {
	var info company.RegionInfo
	if e.Value != nil {
		if err := json.Unmarshal(e.Value, &info); err != nil || string(info.Code) != e.Key {
			slog.Error("leaving out a region that isn't one", "key", e.Key, "error", err)
			return
		}
	} else {
		info.Code = company.Region(e.Key) // what was known of it is forgotten
	}
	r.write.Lock()
	defer r.write.Unlock()
	r.putRegion(info)
}

func (r *Replica) putRegion(info company.RegionInfo) {
	i, ok := r.index(info.Code)
	if !ok {
		slog.Error("leaving out a region: there are too many", "region", info.Code)
		return
	}
	list := r.regions.Load()
	infos := slices.Clone(list.infos)
	infos[i] = info
	r.regions.Store(&regionList{codes: list.codes, infos: infos})
	r.dirty = true
}

func (r *Replica) applyPolicy(e Entry) {
	if e.Key != policyKey {
		return
	}
	var campaign *rules.Campaign // none where the record was deleted
	if e.Value != nil {
		var record PolicyRecord
		if err := json.Unmarshal(e.Value, &record); err != nil {
			slog.Error("leaving out a policy that isn't one", "error", err)
			return
		}
		campaign = &record.Campaign
	}
	r.write.Lock()
	defer r.write.Unlock()
	r.campaign.Store(campaign)
	r.dirty = true
	select { // what an operator was told is in force must be so after a restart as well
	case r.saveNow <- struct{}{}:
	default:
	}
}

func (r *Replica) saveNowAndThen() {
	t := time.NewTicker(saveEvery)
	defer t.Stop()
	var next time.Time
	for {
		select {
		case <-r.stop:
			return
		case at := <-t.C:
			if at.Before(next) {
				continue
			}
		case <-r.saveNow:
		}
		began := time.Now()
		if err := r.save(); err != nil {
			slog.Error("write the copy of the directory", "file", r.file, "error", err)
		}
		next = began.Add(saveShare * time.Since(began))
	}
}

// Close ends the following and writes the copy a last time.
func (r *Replica) Close() error {
	r.stopOnce.Do(func() { close(r.stop) })
	for _, w := range r.watches {
		w.Close()
	}
	r.saving.Wait()
	return r.save()
}
