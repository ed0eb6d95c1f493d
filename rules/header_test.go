package rules_test

import (
	"math/big"
	"regexp"
	"slices"
	"strings"
	"testing"

	"mpr/company"
	"mpr/problem"
	"mpr/rules"
)

func TestReadHeaderAcceptsOneNumber(t *testing.T) {
	policy := rules.Seed()
	for _, c := range []struct {
		name   string
		seed   string
		values []string
		want   company.ID
	}{
		{"no header names no company", headerOnEachCall, nil, 0},
		{"an empty list of values names no company", headerOnEachCall, []string{}, 0},
		{"the smallest id", headerNamesCompany, []string{"1"}, 1},
		{"a small id", headerNamesCompany, []string{"4711"}, 4711},
		{"a real id of a new region", realID, []string{"598134325779301"}, 17<<45 + 269157},
		{"the first id beyond 32 bits", largeIDs, []string{"4294967296"}, 1 << 32},
		{"the largest id that a double holds exactly", largeIDs, []string{"9007199254740991"}, 1<<53 - 1},
		{"the next id, which a double doesn't hold", largeIDs, []string{"9007199254740993"}, 1<<53 + 1},
		{"the largest integer of 64 bits", largeIDs, []string{"9223372036854775807"}, 1<<63 - 1},
		{"leading zeros don't make it octal", headerNamesCompany, []string{"0010"}, 10},
		{"leading zeros are digits as others", headerNamesCompany, []string{"007"}, 7},
		{"leading zeros up to 64 digits", headerNamesCompany, []string{strings.Repeat("0", 63) + "1"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, refusal := policy.ReadHeader(c.values)
			if refusal != nil || got != c.want {
				t.Errorf("ReadHeader(%q) = %d, %v; want %d\nseed: %s", c.values, got, refusal, c.want, c.seed)
			}
		})
	}
}

func TestReadHeaderRefusesEverythingElse(t *testing.T) {
	policy := rules.Seed()
	const empty, number, times = "header is empty", "must be one decimal number", "was sent"
	for _, c := range []struct {
		name   string
		seed   string
		values []string
		says   string
	}{
		{"an empty value", headerNamesCompany, []string{""}, empty},
		{"zero", headerNamesCompany, []string{"0"}, number},
		{"many zeros", headerNamesCompany, []string{"0000"}, number},
		{"a negative number", headerNamesCompany, []string{"-1"}, number},
		{"a plus sign", headerNamesCompany, []string{"+1"}, number},
		{"a sign and no digit", headerNamesCompany, []string{"-"}, number},
		{"negative zero", headerNamesCompany, []string{"-0"}, number},
		{"a space", headerNamesCompany, []string{" "}, number},
		{"a space before", headerNamesCompany, []string{" 1"}, number},
		{"a space after", headerNamesCompany, []string{"1 "}, number},
		{"a space inside", headerNamesCompany, []string{"1 2"}, number},
		{"a tab after", headerNamesCompany, []string{"1\t"}, number},
		{"a line break after", headerNamesCompany, []string{"1\n"}, number},
		{"a line break and another header", headerNamesCompany, []string{"1\r\nMpr-Epoch: 1"}, number},
		{"a space without a break after", headerNamesCompany, []string{"1\u00a0"}, number},
		{"a byte order mark before", headerNamesCompany, []string{"\ufeff1"}, number},
		{"a NUL after", headerNamesCompany, []string{"1\x00"}, number},
		{"a NUL alone", headerNamesCompany, []string{"\x00"}, number},
		{"bytes that are no text", headerNamesCompany, []string{"\xff\xfe"}, number},
		{"hexadecimal", headerNamesCompany, []string{"0x10"}, number},
		{"hexadecimal without a prefix", headerNamesCompany, []string{"1f"}, number},
		{"binary", headerNamesCompany, []string{"0b1"}, number},
		{"octal with a prefix", headerNamesCompany, []string{"0o17"}, number},
		{"digits in groups", headerNamesCompany, []string{"1_000"}, number},
		{"a fraction", headerNamesCompany, []string{"1.0"}, number},
		{"an exponent", headerNamesCompany, []string{"1e3"}, number},
		{"infinity", headerNamesCompany, []string{"Inf"}, number},
		{"a list of two", headerNamesCompany, []string{"1,2"}, number},
		{"a list of two equal ones", headerNamesCompany, []string{"4711, 4711"}, number},
		{"a list that ends in a comma", headerNamesCompany, []string{"1,"}, number},
		{"quotes", headerNamesCompany, []string{`"1"`}, number},
		{"angle brackets", headerNamesCompany, []string{"<1>"}, number},
		{"percent-encoding", headerNamesCompany, []string{"%31"}, number},
		{"the placeholder of the examples", headerNamesCompany, []string{"xxxxxxxxx"}, number},
		{"the header's name again", headerNamesCompany, []string{"Procore-Company-Id: 1"}, number},
		{"what a client prints for nothing", headerNamesCompany, []string{"null"}, number},
		{"what another client prints for nothing", headerNamesCompany, []string{"undefined"}, number},
		{"Arabic digits", headerNamesCompany, []string{"\u0661"}, number},
		{"full-width digits", headerNamesCompany, []string{"\uff11"}, number},
		{"a superscript digit", headerNamesCompany, []string{"\u00b9"}, number},
		{"2^63", largeIDs, []string{"9223372036854775808"}, number},
		{"2^64", largeIDs, []string{"18446744073709551616"}, number},
		{"2^64 + 1, which wraps around to 1", largeIDs, []string{"18446744073709551617"}, number},
		{"a number of 64 digits", largeIDs, []string{strings.Repeat("9", 64)}, number},
		{"more than 64 digits", largeIDs, []string{strings.Repeat("0", 64) + "1"}, number},
		{"a million digits", largeIDs, []string{strings.Repeat("1", 1_000_000)}, number},
		{"a format", headerNamesCompany, []string{"%d%s%n"}, number},
		{"two values", headerNamesCompany, []string{"1", "2"}, times},
		{"two equal values", headerNamesCompany, []string{"4711", "4711"}, times},
		{"a value and an empty one", headerNamesCompany, []string{"4711", ""}, times},
		{"an empty value and another", headerNamesCompany, []string{"", "4711"}, times},
		{"two empty values", headerNamesCompany, []string{"", ""}, times},
		{"a thousand values", headerNamesCompany, slices.Repeat([]string{"1"}, 1000), times},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, refusal := policy.ReadHeader(c.values)
			if got != 0 || refusal == nil {
				t.Fatalf("ReadHeader accepted it as %d\nseed: %s", got, c.seed)
			}
			if refusal.Code != problem.InvalidCompanyHeader || !strings.Contains(refusal.Message, c.says) {
				t.Errorf("%v; want %s and %q\nseed: %s", refusal, problem.InvalidCompanyHeader, c.says, c.seed)
			}
		})
	}
}

var digits = regexp.MustCompile(`^[0-9]{1,64}$`)

// isID says in another way than the code what an id is.
func isID(s string) bool {
	if !digits.MatchString(s) {
		return false
	}
	n, ok := new(big.Int).SetString(s, 10)
	return ok && n.Sign() > 0 && n.IsInt64()
}

func FuzzReadHeader(f *testing.F) {
	for _, s := range []string{
		"", "0", "00", "1", "007", "4711", "598134325779301", "9007199254740993", "9223372036854775807", "9223372036854775808",
		"18446744073709551617", "-1", "+1", "-0", " 1", "1 ", "1 2", "1\n", "1\x00", "\x00", "\xff", "0x10", "1e3", "1.0", "1_000",
		"1,2", "4711, 4711", "xxxxxxxxx", "null", "\u0661", "\uff11", "%d", strings.Repeat("0", 63) + "1", strings.Repeat("0", 64) + "1",
	} {
		f.Add(s, uint8(1))
	}
	f.Add("1", uint8(0))
	f.Add("1", uint8(2))
	f.Add("", uint8(3))
	policy := rules.Seed()
	// What is answered depends on the kind of mistake alone, so it can't hold the input.
	_, malformed := policy.ReadHeader([]string{"x"})
	f.Fuzz(func(t *testing.T, value string, times uint8) {
		values := slices.Repeat([]string{value}, int(times%4))
		id, refusal := policy.ReadHeader(values)
		switch {
		case len(values) == 0:
			if id != 0 || refusal != nil {
				t.Fatalf("no header: %d, %v", id, refusal)
			}
		case len(values) == 1 && isID(value):
			// Leading zeros are the one thing that may differ from the canonical form.
			if refusal != nil || id <= 0 || id.String() != strings.TrimLeft(value, "0") {
				t.Fatalf("%q: %d, %v", value, id, refusal)
			}
			if again, refusal := policy.ReadHeader([]string{id.String()}); again != id || refusal != nil {
				t.Fatalf("%q, printed as %q: %d, %v", value, id.String(), again, refusal)
			}
		default:
			if id != 0 || refusal == nil || refusal.Code != problem.InvalidCompanyHeader || refusal.Message == "" {
				t.Fatalf("%q: %d, %v", values, id, refusal)
			}
			if len(values) == 1 && value != "" && refusal.Message != malformed.Message {
				t.Fatalf("%q: %q depends on the value", value, refusal.Message)
			}
			if len(values) > 1 {
				if _, same := policy.ReadHeader(make([]string, len(values))); refusal.Message != same.Message {
					t.Fatalf("%q: %q depends on the values", values, refusal.Message)
				}
			}
		}
	})
}
