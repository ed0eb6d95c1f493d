package console

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"mpr/company"
	"mpr/control"
	"mpr/ledger"
	"mpr/move"
)

// A chart is geometry that a template draws: all text in it stands in the template's elements, so
// that it is escaped as everything else, and colours are the style sheet's.

// laneChart is the diagram of an environment: its gateways, a lane for each region, and the moves
// between them.
type laneChart struct {
	Width, Height int
	Lanes         []lane
	Moves         []laneMove
	Gateways      struct{ X, Y, Width, Height, Middle int }
	Summary       string
}

type lane struct {
	control.RegionOverview
	Y, Middle int
	// Ribbon leads from the gateways; the more calls, the wider.
	Ribbon string
	Wide   float64
	// Line and Area are the calls of the last minute.
	Line, Area string
	Share      string
}

// laneMove is all moves that are under way from one region to another.
type laneMove struct {
	Path, Head     string
	LabelX, LabelY int
	Label          string
	From, To       company.Region
	Moves          int
}

// The geometry of the lanes.
const (
	lanesWidth  = 1180
	laneHeight  = 92
	laneGap     = 14
	laneLeft    = 230
	laneRight   = 1080
	courseLeft  = 430
	courseRight = 690
	courseTall  = 44
)

func lanesOf(o *control.Overview) laneChart {
	c := laneChart{Width: lanesWidth, Height: max(len(o.Regions), 1)*(laneHeight+laneGap) - laneGap + 2}
	c.Gateways.Width, c.Gateways.Height = 132, 84
	c.Gateways.Y = (c.Height - c.Gateways.Height) / 2
	c.Gateways.Middle = c.Height / 2
	highest := 0.0
	for i := range o.Regions {
		highest = max(highest, slices.Max(append(o.Regions[i].Traffic.Course, 0)))
	}
	at := map[company.Region]int{}
	for i, r := range o.Regions {
		l := lane{RegionOverview: r, Y: 1 + i*(laneHeight+laneGap)}
		l.Middle = l.Y + laneHeight/2
		at[r.Code] = l.Middle
		begin := c.Gateways.Middle + (i*2-len(o.Regions)+1)*c.Gateways.Height/(2*max(len(o.Regions), 1))
		l.Ribbon = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", c.Gateways.Width, begin, c.Gateways.Width+50, begin, laneLeft-50, l.Middle, laneLeft, l.Middle)
		l.Wide = 1.5
		if o.Total.CallsPerSecond > 0 {
			l.Wide += 16 * r.Traffic.CallsPerSecond / o.Total.CallsPerSecond
		}
		l.Line, l.Area = course(r.Traffic.Course, highest, courseLeft, courseRight, l.Middle+courseTall/2, courseTall)
		l.Share = percent(int64(r.Companies), int64(o.Companies))
		c.Lanes = append(c.Lanes, l)
	}
	c.Moves = laneMoves(o.Moves, at)
	c.Summary = laneSummary(o)
	return c
}

// course draws values as a line and the area below it.
func course(values []float64, highest float64, left, right, bottom, tall int) (line, area string) {
	if len(values) < 2 {
		return "", ""
	}
	var b strings.Builder
	for i, v := range values {
		x := float64(left) + float64(i)*float64(right-left)/float64(len(values)-1)
		y := float64(bottom)
		if highest > 0 {
			y -= v / highest * float64(tall)
		}
		fmt.Fprintf(&b, "%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[i == 0], x, y)
	}
	line = b.String()
	return line, fmt.Sprintf("%sL%d %dL%d %dZ", line, right, bottom, left, bottom)
}

// laneMoves draws an arrow for each pair of regions between which companies move.
func laneMoves(moves []*move.Move, at map[company.Region]int) []laneMove {
	type pair struct{ from, to company.Region }
	under := map[pair][]*move.Move{}
	for _, m := range moves {
		if at[m.From] != 0 && at[m.To] != 0 {
			under[pair{m.From, m.To}] = append(under[pair{m.From, m.To}], m)
		}
	}
	var list []laneMove
	for p, all := range under {
		from, to := at[p.from], at[p.to]
		// Both ways between two regions can be busy: they keep apart.
		bend, shift := 34+min(abs(to-from)/8, 40), 9
		if from > to {
			shift = -9
			bend += 4
		}
		from, to = from+shift, to-shift
		x := laneRight + bend
		l := laneMove{
			Path: fmt.Sprintf("M%d %dC%d %d %d %d %d %d", laneRight, from, x, from, x, to, laneRight+9, to),
			Head: fmt.Sprintf("M%d %dl10 -6v12z", laneRight, to), LabelX: laneRight + bend*3/4 + 8, LabelY: (from+to)/2 + 5,
			From: p.from, To: p.to, Moves: len(all),
		}
		if l.Label = plural(len(all), "move", "moves"); len(all) == 1 {
			l.Label = fmt.Sprintf("%d %%", progress(all[0]))
		}
		list = append(list, l)
	}
	slices.SortFunc(list, func(a, b laneMove) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	return list
}

func abs(n int) int { return max(n, -n) }

func laneSummary(o *control.Overview) string {
	text := fmt.Sprintf("%s, %s calls a second.", plural(len(o.Gateways), "gateway", "gateways"), rate(o.Total.CallsPerSecond))
	for _, r := range o.Regions {
		text += fmt.Sprintf(" %s: %s, %s calls a second, %s errors a second.", r.Code, plural(r.Companies, "company", "companies"), rate(r.Traffic.CallsPerSecond), rate(r.Traffic.ErrorsPerSecond))
	}
	return text + " " + plural(len(o.Moves), "move", "moves") + " under way."
}

// trendChart is a bar for each day, in which kinds stand upon one another.
type trendChart struct {
	Width, Height, Bottom int
	Bars                  []trendBar
	Marks                 []trendMark
	Summary               string
}

type trendBar struct {
	X, Width, Middle int
	Day, Label       string
	Total            int64
	Parts            []trendPart
}

type trendPart struct {
	Y, Height float64
	Class     string
	Name      string
	N         int64
}

type trendMark struct {
	Y     float64
	Label string
}

// trendSeries is what is counted of one kind.
type trendSeries struct {
	Class, Name string
	Days        []int64
}

const (
	trendLeft = 46
	trendStep = 44
	trendTall = 150
)

// trendOf draws series of the same days.
func trendOf(days []string, series []trendSeries) trendChart {
	c := trendChart{Width: trendLeft + len(days)*trendStep + 8, Bottom: trendTall + 12, Height: trendTall + 36}
	totals := make([]int64, len(days))
	for _, s := range series {
		for i, n := range s.Days[:min(len(s.Days), len(days))] {
			totals[i] += n
		}
	}
	highest := ceiling(slices.Max(append(totals, 1)))
	for i := range int64(3) {
		n := highest * i / 2
		c.Marks = append(c.Marks, trendMark{float64(c.Bottom) - float64(trendTall)*float64(n)/float64(highest), short(n)})
	}
	sum := int64(0)
	for i, d := range days {
		b := trendBar{X: trendLeft + i*trendStep + 6, Width: trendStep - 12, Middle: trendLeft + i*trendStep + trendStep/2, Day: d, Label: strings.TrimPrefix(d[min(len(d), 5):], "0"), Total: totals[i]}
		y := float64(c.Bottom)
		for _, s := range series {
			if i >= len(s.Days) || s.Days[i] == 0 {
				continue
			}
			tall := max(float64(trendTall)*float64(s.Days[i])/float64(highest), 1.5)
			y -= tall
			b.Parts = append(b.Parts, trendPart{y, tall, s.Class, s.Name, s.Days[i]})
		}
		c.Bars = append(c.Bars, b)
		sum += totals[i]
	}
	c.Summary = fmt.Sprintf("%s in %d days; the most in a day were %s.", plural(int(sum), "call", "calls"), len(days), count(slices.Max(append(totals, 0))))
	return c
}

// ceiling is a round number that isn't below n.
func ceiling(n int64) int64 {
	size := int64(math.Pow10(int(math.Log10(float64(max(n, 1))))))
	for _, step := range []int64{1, 2, 4, 6, 8, 10} {
		if step*size >= n && step*size%2 == 0 {
			return step * size
		}
	}
	return max(n+n%2, 2)
}

// short writes a number at an axis.
func short(n int64) string {
	switch {
	case n >= 10_000_000:
		return fmt.Sprintf("%dM", n/1_000_000)
	case n >= 10_000:
		return fmt.Sprintf("%dk", n/1000)
	}
	return count(n)
}

// appTrend draws what an app does, by kind.
func appTrend(days []string, a ledger.AppReport) trendChart {
	var list []trendSeries
	for _, k := range a.Kinds {
		list = append(list, trendSeries{kindClass(k.Kind), kindName(k.Kind), k.Trend[:]})
	}
	return trendOf(days, list)
}

// sunsetTrend draws what all apps do.
func sunsetTrend(o *control.SunsetOverview) trendChart {
	return trendOf(o.Days, []trendSeries{{"k2", "non-compliant calls", o.Trend}})
}

// sparkChart is the trend of an app in a line of a table.
type sparkChart struct {
	Label string
	Bars  []sparkBar
}

type sparkBar struct {
	X         int
	Y, Height float64
}

func sparkOf(a *ledger.AppReport) sparkChart {
	highest := slices.Max(append(a.Trend[:], 1))
	c := sparkChart{Label: fmt.Sprintf("%s in %d days, %s today", plural(int(a.Calls), "call", "calls"), ledger.TrendDays, count(a.Trend[ledger.TrendDays-1]))}
	for i, n := range a.Trend {
		tall := 0.0
		if n > 0 {
			tall = max(22*float64(n)/float64(highest), 1.5)
		}
		c.Bars = append(c.Bars, sparkBar{X: i*8 + 1, Y: 23 - tall, Height: tall})
	}
	return c
}
