package directory

import (
	"sync/atomic"
	"time"

	"mpr/company"
)

// table maps companies to packed placements: open addressing in one slice of words, a
// key and a value a slot, 16 bytes. One writer at a time; readers take no lock and
// allocate nothing. Slots are only ever filled or overwritten, never emptied, since
// placements are never deleted: that is what makes lock-free reading simple.
type table struct {
	slots []atomic.Uint64 // key, value, key, value, ...
	mask  uint64
	used  int
}

// A packed placement: epoch, 40 bits; UTC day of onboarding since 1970, 16 bits; index of
// the region, 8 bits. An epoch is at least 1, so a packed placement is never 0.
const (
	regionBits = 8
	dayBits    = 16
	maxRegions = 1 << regionBits
	maxEpoch   = 1<<(64-regionBits-dayBits) - 1
	day        = 24 * time.Hour
)

func newTable(capacity int) *table {
	size := uint64(1 << 10)
	for size*3/4 < uint64(capacity) {
		size *= 2
	}
	return &table{slots: make([]atomic.Uint64, 2*size), mask: size - 1}
}

func pack(p company.Placement, region int) uint64 {
	days := min(max(int64(p.Onboarded.Unix())/int64(day/time.Second), 0), 1<<dayBits-1)
	return uint64(p.Epoch)<<(regionBits+dayBits) | uint64(days)<<regionBits | uint64(region) //nolint:gosec // all three are in range and not negative
}

func packedEpoch(v uint64) company.Epoch { return company.Epoch(v >> (regionBits + dayBits)) } //nolint:gosec // 40 bits

func packedRegion(v uint64) int { return int(v & (maxRegions - 1)) } //nolint:gosec // 8 bits

func packedDay(v uint64) time.Time {
	return time.Unix(int64(v>>regionBits&(1<<dayBits-1))*int64(day/time.Second), 0).UTC() //nolint:gosec // 16 bits
}

// hash spreads ids, which count up within a region's block (Fibonacci hashing).
func hash(key uint64) uint64 {
	key *= 0x9E3779B97F4A7C15
	return key ^ key>>32
}

// get returns the packed placement of a company, 0 if there is none.
func (t *table) get(id company.ID) uint64 {
	key := uint64(id) //nolint:gosec // ids are positive
	for i := hash(key) & t.mask; ; i = (i + 1) & t.mask {
		switch t.slots[2*i].Load() {
		case key:
			return t.slots[2*i+1].Load()
		case 0:
			return 0
		}
	}
}

// put sets the packed placement of a company. It says false, and does nothing, where the
// table is full and the company isn't in it.
func (t *table) put(id company.ID, v uint64) bool {
	key := uint64(id) //nolint:gosec // ids are positive
	for i := hash(key) & t.mask; ; i = (i + 1) & t.mask {
		switch t.slots[2*i].Load() {
		case key:
			t.slots[2*i+1].Store(v)
			return true
		case 0:
			if uint64(t.used) >= (t.mask+1)*3/4 { //nolint:gosec // not negative
				return false
			}
			// The value goes first: a reader that sees the key must see a value.
			t.slots[2*i+1].Store(v)
			t.slots[2*i].Store(key)
			t.used++
			return true
		}
	}
}

// each calls f for every company, in no order, until f says false.
func (t *table) each(f func(company.ID, uint64) bool) {
	for i := uint64(0); i <= t.mask; i++ {
		if key := t.slots[2*i].Load(); key != 0 {
			if !f(company.ID(key), t.slots[2*i+1].Load()) { //nolint:gosec // it was an id
				return
			}
		}
	}
}

// grown returns a copy with room for twice as many companies.
func (t *table) grown() *table {
	g := newTable(2 * t.used)
	t.each(func(id company.ID, v uint64) bool { return g.put(id, v) })
	return g
}
