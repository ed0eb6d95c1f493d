package console

import (
	"encoding/xml"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"mpr/company"
	"mpr/control"
	"mpr/directory"
	"mpr/ledger"
	"mpr/move"
	"mpr/rules"
)

func TestNumbersForPeople(t *testing.T) {
	for want, got := range map[string]string{
		"0": count(0), "999": count(999), "1 000": count(1000), "−1 234 567": count(-1234567),
		"<0.1": rate(.04), "9.5": rate(9.49999), "10": rate(10), "1 500": rate(1500), "12.3k": rate(12345),
		"–": ms(0), "<1 ms": ms(.4), "2.5 ms": ms(2.5), "480 ms": ms(480), "1.2 s": ms(1234),
		"0 %": percent(0, 9), "<0.01 %": percent(1, 1_000_000), "0.50 %": percent(1, 200), "5.0 %": percent(1, 20), "100 %": percent(3, 2),
		"1 move": plural(1, "move", "moves"), "2 000 moves": plural(2000, "move", "moves"),
		"0 s": period(0), "25 ms": period(25 * time.Millisecond), "59 s": period(59 * time.Second), "47 h 30 min": period(47*time.Hour + 30*time.Minute), "3 days": period(80 * time.Hour), "never in step": replicaAge(1 << 60),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func overview() *control.Overview {
	o := &control.Overview{Companies: 3, Total: control.Traffic{CallsPerSecond: 30}, Gateways: []control.GatewayState{{Name: "a"}}}
	for i, code := range []company.Region{"US01", "US02", "EU01"} {
		o.Regions = append(o.Regions, control.RegionOverview{Code: code, Number: i, Companies: 1, Traffic: control.Traffic{CallsPerSecond: 10, Course: []float64{0, 5, 10}}})
	}
	o.Moves = []*move.Move{
		{From: "US01", To: "EU01", Phase: move.Ready}, {From: "EU01", To: "US01", Phase: move.Queued}, {From: "EU01", To: "US01", Phase: move.Copying},
		{From: "US01", To: "AP01", Phase: move.Copying}, // a region that isn't there any more
	}
	return o
}

func TestLanes(t *testing.T) {
	c := lanesOf(overview())
	if len(c.Lanes) != 3 || len(c.Moves) != 2 {
		t.Fatalf("%d lanes, %d arrows", len(c.Lanes), len(c.Moves))
	}
	for i, l := range c.Lanes {
		if i > 0 && l.Y < c.Lanes[i-1].Y+laneHeight {
			t.Errorf("the lane of %s lies on the one before", l.Code)
		}
		if l.Y+laneHeight > c.Height || !strings.HasPrefix(l.Line, "M") {
			t.Errorf("%+v", l)
		}
	}
	if c.Moves[0].Label != "2 moves" || c.Moves[1].Label != "90 %" || c.Moves[0].Path == c.Moves[1].Path {
		t.Errorf("%+v", c.Moves)
	}
	if !strings.Contains(c.Summary, "EU01: 1 company, 10 calls a second") || !strings.Contains(c.Summary, "4 moves under way") {
		t.Error(c.Summary)
	}
	if none := lanesOf(&control.Overview{}); none.Height <= 0 || len(none.Lanes) != 0 {
		t.Errorf("of nothing: %+v", none)
	}
}

func TestTrend(t *testing.T) {
	days := []string{"2019-04-19", "2019-04-20"}
	c := trendOf(days, []trendSeries{{"k1", "one", []int64{0, 7}}, {"k2", "two", []int64{0, 3}}})
	if len(c.Bars) != 2 || len(c.Bars[0].Parts) != 0 || len(c.Bars[1].Parts) != 2 || c.Bars[1].Total != 10 {
		t.Fatalf("%+v", c.Bars)
	}
	low, high := c.Bars[1].Parts[0], c.Bars[1].Parts[1]
	if low.Y+low.Height != float64(c.Bottom) || high.Y+high.Height != low.Y || high.Y < 0 {
		t.Errorf("%+v stands on %+v", high, low)
	}
	for n, want := range map[int64]int64{0: 2, 1: 2, 2: 2, 3: 4, 7: 8, 10: 10, 11: 20, 99: 100, 100: 100, 4001: 6000} {
		if got := ceiling(n); got != want {
			t.Errorf("above %d: %d, want %d", n, got, want)
		}
	}
}

func TestCalendar(t *testing.T) {
	at := func(text string) time.Time {
		parsed, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	p := control.Policy{Now: at("2019-04-20T23:59:00Z"), PolicyRecord: directory.PolicyRecord{Campaign: rules.Campaign{
		LegacySunset: at("2019-06-30T00:00:00Z"),
		Brownouts:    []rules.Brownout{{Name: "a", From: at("2019-05-06T23:00:00Z"), To: at("2019-05-08T00:00:00Z")}, {Name: "b", From: at("2019-05-09T00:00:00Z"), To: at("2019-05-09T01:00:00Z"), Paused: true}},
	}}}
	var brown, paused, end []string
	c := calendarOf(&p, p.Now)
	for _, m := range c.Months {
		for _, d := range m.Days {
			if d.Y+28 > c.Height || d.X+30 > c.Width {
				t.Errorf("%s lies outside", d.Label)
			}
			if d.Brown {
				brown = append(brown, d.Label[:10])
			}
			if d.Paused {
				paused = append(paused, d.Label[:10])
			}
			if d.End {
				end = append(end, d.Label[:10])
			}
		}
	}
	if !slices.Equal(brown, []string{"2019-05-06", "2019-05-07", "2019-05-09"}) || !slices.Equal(paused, []string{"2019-05-09"}) || !slices.Equal(end, []string{"2019-06-30"}) {
		t.Errorf("brownouts %v, paused %v, the end %v", brown, paused, end)
	}
	if c.Months[0].Days[19].Class != "today" || c.Months[0].Days[0].Y != c.Months[0].Days[6].Y || c.Months[0].Days[7].Y == c.Months[0].Days[6].Y { // 1 April 2019 was a Monday
		t.Errorf("%+v", c.Months[0].Days[:9])
	}
}

// A page's templates are there, and nothing stands in them that the policy would block.
func TestTemplates(t *testing.T) {
	s, err := New(Options{Admin: nobody{}, Operators: "production", Product: "Procore"})
	if err != nil {
		t.Fatal(err)
	}
	blocked := regexp.MustCompile(`(?i)<style|\sstyle=|\son[a-z]+=|javascript:|<script(?:[^>]*)>[^<]|https?://[^<"]*\.(?:js|css)`)
	for name, page := range s.templates {
		if page.Lookup("content") == nil && name != "_" {
			t.Errorf("%s has no content", name)
		}
	}
	for _, file := range []string{"_layout", "_charts", "_app", "overview", "company", "policy", "secret"} {
		data, err := files.ReadFile("pages/" + file + ".html")
		if err != nil {
			t.Fatal(err)
		}
		if found := blocked.FindString(string(data)); found != "" {
			t.Errorf("%s has %q", file, found)
		}
	}
	for _, p := range []page{
		overviewPage, companiesPage, newCompanyPage, companyPage, proofPage, movesPage, appsPage, healthPage, settingsPage, installationsPage, eventsPage, secretPage, ownAppsPage, newAppPage, policyPage, auditPage,
		directoryPage, keysPage, sandboxPage, operatorsPage,
	} {
		t1 := s.templates[p.template]
		if t1 == nil {
			t.Errorf("there is no template %s", p.template)
			continue
		}
		for _, part := range p.live {
			if t1.Lookup(part) == nil {
				t.Errorf("%s has no part %s", p.template, part)
			}
		}
	}
}

// The diagrams are well-formed: they are put into pages that browsers read leniently, and into files.
func TestDiagramsAreWellFormed(t *testing.T) {
	s, err := New(Options{Admin: nobody{}, Operators: "production"})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := s.templates["overview"].ExecuteTemplate(&b, "lanes", overview()); err != nil {
		t.Fatal(err)
	}
	a := ledger.AppReport{Kinds: []ledger.KindReport{{Kind: ledger.MissingHeader, Calls: 3}}}
	a.Kinds[0].Trend[13] = 3
	var days [ledger.TrendDays]string
	for i := range days {
		days[i] = "2019-04-20"
	}
	data := map[string]any{"ID": "x", "Title": `a "title" & <more>`, "Chart": appTrend(days[:], a)}
	if err := s.templates["app-health"].ExecuteTemplate(&b, "trend", data); err != nil {
		t.Fatal(err)
	}
	for text := b.String(); ; {
		begin, end := strings.Index(text, "<svg"), strings.Index(text, "</svg>")
		if begin < 0 {
			break
		}
		for in := xml.NewDecoder(strings.NewReader(text[begin : end+6])); ; {
			if _, err := in.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%v in %s", err, text[begin:end+6])
			}
		}
		text = text[end+6:]
	}
}

// nobody is an admin API that nobody asks.
type nobody struct{ Admin }

func (nobody) Environments() []control.EnvironmentInfo {
	return []control.EnvironmentInfo{{Name: "production"}, {Name: "monthly sandbox"}}
}

func TestPlaces(t *testing.T) {
	s, err := New(Options{Admin: nobody{}, Operators: "production"})
	if err != nil {
		t.Fatal(err)
	}
	for named, want := range map[string]string{"": "production", "production": "production", "monthly-sandbox": "monthly sandbox", "monthly sandbox": "", "nowhere": ""} {
		if got, err := s.place(named); got.Name != want || (err == nil) != (want != "") {
			t.Errorf("%q is %q, %v", named, got.Name, err)
		}
	}
	for path, want := range map[string]bool{"/console": true, "/console/": true, "/console/x/y": true, "/consolex": false, "/developers": true, "/assets/x": true, "/admin/v1/session": false, "/": false} {
		if Serves(path) != want {
			t.Errorf("serves %s: %v", path, !want)
		}
	}
}

// The pages being updated are counted, for all and for each session.
func TestStreamsHaveALimit(t *testing.T) {
	s := streams{of: map[string]int{}, over: make(chan struct{})}
	var leave []func()
	for range maxOwnStreams {
		l, ok := s.enter("one")
		if !ok {
			t.Fatal("refused too early")
		}
		leave = append(leave, l)
	}
	if _, ok := s.enter("one"); ok {
		t.Error("a session has more than its share")
	}
	if l, ok := s.enter("other"); !ok {
		t.Error("another session is refused")
	} else {
		l()
	}
	for _, l := range leave {
		l()
	}
	if s.all != 0 || len(s.of) != 0 {
		t.Errorf("%d, %v are left", s.all, s.of)
	}
	s.close()
	s.close()
}

func FuzzLines(f *testing.F) {
	f.Add("https://a.example/cb\r\n\n https://b.example ")
	f.Fuzz(func(t *testing.T, text string) {
		for _, line := range lines(text) {
			if line == "" || strings.TrimSpace(line) != line || strings.Contains(line, "\n") {
				t.Errorf("%q of %q", line, text)
			}
		}
	})
}
