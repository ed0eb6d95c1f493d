package company

import (
	"errors"
	"strings"
	"testing"
)

func TestParseID(t *testing.T) {
	for in, want := range map[string]ID{
		"1":                   1,
		"007":                 7,
		"598134325779301":     598134325779301,
		"9223372036854775807": 1<<63 - 1,
	} {
		if got, err := ParseID(in); err != nil || got != want {
			t.Errorf("ParseID(%q) = %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "0", "000", "-1", "+1", " 1", "1 ", "1 2", "0x10", "1e3", "1.0", "1,2", "١",
		"9223372036854775808", "99999999999999999999", strings.Repeat("0", 64) + "1", "null", "1\x00",
	} {
		if got, err := ParseID(in); !errors.Is(err, ErrID) {
			t.Errorf("ParseID(%q) = %d, %v; want ErrID", in, got, err)
		}
	}
}

// A published id of a company in a new region: 17 stands in the high bits.
func TestBirth(t *testing.T) {
	const id = ID(598134325779301)
	if id.Birth() != 17 || int64(id)-FirstID(17) != 269157 {
		t.Fatalf("Birth() = %d, rest %d; want 17 and 269157", id.Birth(), int64(id)-FirstID(17))
	}
	if ID(FirstID(MaxRegionNumber+1)-1) != MaxID {
		t.Fatalf("the last block ends at %d, not at MaxID", FirstID(MaxRegionNumber+1)-1)
	}
}

func TestParseRegion(t *testing.T) {
	for _, in := range []string{"US01", "EU01", "AP"} {
		if got, err := ParseRegion(in); err != nil || string(got) != in {
			t.Errorf("ParseRegion(%q) = %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "U", "us01", "1US", "US-1", "US01 ", "ABCDEFGHIJKLMNOPQ"} {
		if _, err := ParseRegion(in); !errors.Is(err, ErrRegion) {
			t.Errorf("ParseRegion(%q): %v; want ErrRegion", in, err)
		}
	}
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{"1", "0", "-1", "+1", "0x1", "9223372036854775807", "9223372036854775808", " 1", "1\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err != nil {
			return
		}
		if id <= 0 || strings.TrimLeft(s, "0") != id.String() {
			t.Fatalf("ParseID(%q) = %d", s, id)
		}
	})
}
