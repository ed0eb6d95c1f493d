package main

import (
	"bytes"
	"fmt"
	"os"
	"time"
)

const (
	// around is how much of the time before and after the beginning of a change-over is drawn.
	around = 600 * time.Millisecond
	// The plot's size and margins, in its own units.
	plotWide, plotHigh, plotLeft, plotBelow, plotTop = 760, 320, 60, 46, 34
	// plotMoves bounds how many moves are drawn: a plot is looked at, and kept in a repository.
	plotMoves = 20
)

// plot draws the latency of calls over the time at which they were due, around the beginning of
// the change-overs, which are laid on top of one another.
func plot(file string, calls []*sent, moves []moved, usual time.Duration, o options) error {
	if len(moves) > plotMoves {
		moves = moves[len(moves)-plotMoves:]
	}
	var dots bytes.Buffer
	highest := 50 * time.Millisecond
	for _, m := range moves {
		for _, c := range calls {
			if at := c.due.Sub(m.cut); at > -around && at < around {
				highest = max(highest, c.latency())
			}
		}
	}
	highest = (highest + 49*time.Millisecond).Truncate(50 * time.Millisecond)
	x := func(at time.Duration) float64 {
		return plotLeft + float64(at+around)/float64(2*around)*(plotWide-plotLeft-10)
	}
	y := func(latency time.Duration) float64 {
		return plotHigh - plotBelow - float64(latency)/float64(highest)*(plotHigh-plotBelow-plotTop)
	}
	for _, m := range moves {
		for _, c := range calls {
			if at := c.due.Sub(m.cut); at > -around && at < around {
				// One path of short strokes: an element for each dot would be ten times as much.
				fmt.Fprintf(&dots, "M%.0f %.0fh0", x(at), y(c.latency()))
			}
		}
	}
	var svg bytes.Buffer
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotWide, plotHigh)
	fmt.Fprintf(&svg, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", plotWide, plotHigh)
	fmt.Fprintf(&svg, `<text x="%d" y="18">Latency of %.0f writes/s around %d change-overs, laid on top of one another (median in quiet times: %s ms)</text>`+"\n", plotLeft, o.writes, len(moves), ms(usual))
	for n := range 6 {
		latency := highest * time.Duration(n) / 5
		fmt.Fprintf(&svg, `<path d="M%d %.0fH%d" stroke="#ddd"/><text x="%d" y="%.0f" text-anchor="end">%d ms</text>`+"\n", plotLeft, y(latency), plotWide-10, plotLeft-6, y(latency)+4, latency.Milliseconds())
	}
	for at := -around; at <= around; at += around / 3 {
		fmt.Fprintf(&svg, `<text x="%.0f" y="%d" text-anchor="middle">%d</text>`+"\n", x(at), plotHigh-plotBelow+16, at.Milliseconds())
	}
	fmt.Fprintf(&svg, `<path d="M%.0f %dV%d" stroke="#c33" stroke-dasharray="4"/>`+"\n", x(0), plotTop, plotHigh-plotBelow)
	fmt.Fprintf(&svg, `<text x="%d" y="%d" text-anchor="middle">when a call was due, in ms from the beginning of the change-over</text>`+"\n", (plotWide+plotLeft)/2, plotHigh-10)
	fmt.Fprintf(&svg, `<path d="%s" stroke="#236" stroke-opacity=".5" stroke-width="3" stroke-linecap="round" fill="none"/>`+"\n</svg>\n", &dots)
	return os.WriteFile(file, svg.Bytes(), 0o644) //nolint:gosec // for everybody to look at
}
