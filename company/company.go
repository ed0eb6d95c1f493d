package company

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Ids carry the region of birth in their high bits, so that regions hand out ids
// on their own and two of them never collide when a company moves.
const (
	// RegionShift is the number of low bits that count within a region.
	RegionShift = 45
	// MaxRegionNumber keeps every id below 2^53: the integers that JavaScript
	// clients read exactly.
	MaxRegionNumber = 1<<(53-RegionShift) - 1
	// MaxID is the largest id that a region hands out.
	MaxID = ID(1<<53 - 1)
)

// ID names a company (the tenant). It is positive. Ids that clients send may be as
// large as 2^63-1; ids that a region makes stay at or below [MaxID].
type ID int64

// ErrID says that a text is not a company id: decimal digits of a number from 1 to
// 2^63-1 and nothing else.
var ErrID = errors.New("not a company id: expected a decimal number from 1 to 9223372036854775807")

// ParseID reads a company id strictly: ASCII decimal digits, no sign, no spaces, no
// other base, from 1 to 2^63-1. Every error is [ErrID].
func ParseID(s string) (ID, error) {
	if s == "" || len(s) > 64 {
		return 0, ErrID
	}
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, ErrID
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n <= 0 {
		return 0, ErrID
	}
	return ID(n), nil
}

// Birth is the number of the region that made the id.
func (id ID) Birth() int64 { return int64(id) >> RegionShift }

func (id ID) String() string { return strconv.FormatInt(int64(id), 10) }

// FirstID is the smallest id of the block of the region with this number (0 to
// [MaxRegionNumber]); FirstID(n) + 1 is the first one handed out.
func FirstID(number int) int64 { return int64(number) << RegionShift }

// Region is the code of a region, such as US01 or EU01: 2 to 16 characters, upper
// case letters and digits, a letter first.
type Region string

// ErrRegion says that a text is not a region code.
var ErrRegion = errors.New("not a region code: expected 2 to 16 upper case letters and digits, a letter first, such as EU01")

// ParseRegion checks the form of a region code; it doesn't know which regions exist.
func ParseRegion(s string) (Region, error) {
	if len(s) < 2 || len(s) > 16 || s[0] < 'A' || s[0] > 'Z' {
		return "", fmt.Errorf("%q is %w", s, ErrRegion)
	}
	for i := 1; i < len(s); i++ {
		if (s[i] < 'A' || s[i] > 'Z') && (s[i] < '0' || s[i] > '9') {
			return "", fmt.Errorf("%q is %w", s, ErrRegion)
		}
	}
	return Region(s), nil
}

// Epoch counts the changes of a company's placement, from 1. It only grows, and at
// every epoch exactly one region owns the company.
type Epoch int64

// Placement says where a company lives. The directory is all placements of an
// environment.
type Placement struct {
	Company ID     `json:"company"`
	Region  Region `json:"region"`
	Epoch   Epoch  `json:"epoch"`
	// Onboarded is the UTC day on which the company became a customer. The rules of
	// the legacy door depend on it. Kept to the day.
	Onboarded time.Time `json:"onboarded"`
	// Turn is the turn of the mover that placed the company; 0 where none has. Copies of the
	// directory do without it.
	Turn int64 `json:"turn,omitempty"`
}

// RegionInfo is what the directory says of a region.
type RegionInfo struct {
	Code Region `json:"code"`
	// Number is the region's place in the high bits of the ids it makes, 0 to
	// [MaxRegionNumber]. The default region has 0.
	Number int `json:"number"`
	// Upstreams are the base URLs that answer API calls for the region's companies.
	Upstreams []string `json:"upstreams"`
	// HealthPath is what gateways GET to see whether an upstream is well; empty: they only
	// connect to it.
	HealthPath string `json:"health_path,omitempty"`
	// Internal is the base URL of the region's internal listener, for the control
	// role. Empty where a foreign service stands in for the region.
	Internal string `json:"internal,omitempty"`
	// Ours says that the upstreams are processes of ours that want, and show, certificates of
	// the CA of our processes.
	Ours bool `json:"ours,omitempty"`
	// Draining says that the region is being emptied: no company is made there or moved there.
	Draining bool `json:"draining,omitempty"`
}

// IsHealthPath says whether gateways can GET a path of health: one that starts with a slash
// and holds nothing that would have to be encoded.
func IsHealthPath(s string) bool {
	if !strings.HasPrefix(s, "/") || len(s) > 256 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '#' || c == '\\' {
			return false
		}
	}
	return true
}
