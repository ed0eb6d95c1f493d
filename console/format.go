package console

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mpr/control"
	"mpr/ledger"
	"mpr/move"
)

// functions are what templates call.
var functions = template.FuncMap{
	// figures
	"count": count[int64], "counti": count[int], "plural": plural, "rate": rate, "ms": ms, "percent": percent, "size": move.Size, "share": share,
	// times
	"when": when, "day": day, "until": until, "period": period, "seconds": seconds, "age": replicaAge, "zero": time.Time.IsZero,
	// words, and the classes that colour them
	"kind": kindName, "kindClass": kindClass, "stateClass": stateClass, "stateOf": func(s string) string { return stateClass(ledger.State(s)) },
	"phaseClass": phaseClass, "progress": progress, "over": func(m *move.Move) bool { return m.Phase.Over() },
	"appKind": appKindName, "deliveryClass": deliveryClass, "title": titled,
	// charts
	"lanes": lanesOf, "sunsetTrend": sunsetTrend, "appTrend": appTrend, "sparkOf": sparkOf,
	// forms, and what templates lack
	"wrong": wrong, "ticked": ticked, "p": url.PathEscape, "join": strings.Join, "dict": dict, "add": func(a, b int) int { return a + b }, "json": prettyJSON,
}

// count writes a number with thin spaces between thousands.
func count[T int | int64](n T) string {
	text := strconv.FormatInt(int64(n), 10)
	sign := ""
	if text[0] == '-' {
		sign, text = "−", text[1:]
	}
	var b strings.Builder
	for i, c := range text {
		if i > 0 && (len(text)-i)%3 == 0 {
			b.WriteRune(' ')
		}
		b.WriteRune(c)
	}
	return sign + b.String()
}

func decimals(v float64, digits int) string { return strconv.FormatFloat(v, 'f', digits, 64) }

// share writes a part of one as it was set: 0.125 is 12.5 %.
func share(part float64) string { return decimals(100*part, -1) + " %" }

// rate writes so many a second.
func rate(perSecond float64) string {
	switch {
	case perSecond == 0:
		return "0"
	case perSecond < 0.1:
		return "<0.1"
	case perSecond < 10:
		return decimals(perSecond, 1)
	case perSecond < 10_000:
		return count(int64(math.Round(perSecond)))
	}
	return decimals(perSecond/1000, 1) + "k"
}

// ms writes milliseconds.
func ms(v float64) string {
	switch {
	case v == 0:
		return "–"
	case v < 1:
		return "<1 ms"
	case v < 10:
		return decimals(v, 1) + " ms"
	case v < 1000:
		return decimals(v, 0) + " ms"
	}
	return decimals(v/1000, 1) + " s"
}

// percent writes a share.
func percent(part, whole int64) string {
	if whole <= 0 || part <= 0 {
		return "0 %"
	}
	switch share := 100 * float64(part) / float64(whole); {
	case share < 0.01:
		return "<0.01 %"
	case share < 1:
		return decimals(share, 2) + " %"
	case share < 10:
		return decimals(share, 1) + " %"
	default:
		return decimals(min(share, 100), 0) + " %"
	}
}

// when writes a time: all times on the pages are UTC.
func when(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

func day(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return t.UTC().Format(time.DateOnly)
}

// seconds writes an estimate.
func seconds(n float64) string { return period(time.Duration(max(n, 1) * float64(time.Second))) }

func until(now, t time.Time) string { return period(t.Sub(now)) }

// period writes how long something takes, in its two largest units.
func period(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return "0 s"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h %d min", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// replicaAge writes how old a gateway's copy of the directory is.
func replicaAge(millis int64) string {
	if millis > 365*24*3600*1000 {
		return "never in step"
	}
	return period(time.Duration(millis) * time.Millisecond)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return count(n) + " " + many
}

// kinds are how the pages name the kinds of non-compliant calls.
var kinds = []struct {
	kind ledger.Kind
	name string
}{
	{ledger.LegacyLoginHost, "Authentication at the legacy host"},
	{ledger.LegacyAPIHost, "Call to the legacy host"},
	{ledger.MissingHeader, "Company header missing"},
	{ledger.CompanyMismatch, "Two companies named"},
	{ledger.RefusedForRegion, "Company in another region"},
	{ledger.RefusedInBrownout, "Refused in a brownout"},
	{ledger.WrongEnvironment, "Wrong environment"},
}

func kindName(k ledger.Kind) string {
	if i := kindIndex(k); i >= 0 {
		return kinds[i].name
	}
	return string(k)
}

// kindClass is the colour of a kind; one that isn't known here has the last.
func kindClass(k ledger.Kind) string {
	if i := kindIndex(k); i >= 0 {
		return "k" + strconv.Itoa(i+1)
	}
	return "k8"
}

func kindIndex(k ledger.Kind) int {
	for i := range kinds {
		if kinds[i].kind == k {
			return i
		}
	}
	return -1
}

func stateClass(s ledger.State) string {
	switch s {
	case ledger.Breaking:
		return "bad"
	case ledger.AtRisk:
		return "warn"
	}
	return "good"
}

func phaseClass(m *move.Move) string {
	switch {
	case m.Phase == move.Aborted || m.Phase == move.Aborting || m.Problem != "":
		return "bad"
	case m.Paused:
		return "warn"
	case m.Phase.Over():
		return "good"
	}
	return "busy"
}

// progress is how far a move is, from 0 to 100: the copying is most of it.
func progress(m *move.Move) int {
	switch m.Phase {
	case move.Queued:
		return 0
	case move.Copying:
		if m.Rows > 0 {
			return 2 + int(78*min(m.Copied, m.Rows)/m.Rows)
		}
		return 2
	case move.Following:
		return 84
	case move.Ready:
		return 90
	case move.Cutting:
		return 96
	case move.Committed:
		return 98
	case move.Aborting, move.Aborted:
		return 0
	}
	return 100
}

func titled(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// dict makes the data of a template that is called with several values.
func dict(pairs ...any) (map[string]any, error) {
	if len(pairs)%2 != 0 {
		return nil, fmt.Errorf("a value lacks its name")
	}
	m := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		name, ok := pairs[i].(string)
		if !ok {
			return nil, fmt.Errorf("%v is no name", pairs[i])
		}
		m[name] = pairs[i+1]
	}
	return m, nil
}

// prettyJSON writes a JSON value for people.
func prettyJSON(data json.RawMessage) string {
	if len(data) == 0 {
		return ""
	}
	var b bytes.Buffer
	if err := json.Indent(&b, data, "", "  "); err != nil {
		return string(data)
	}
	return b.String()
}

// appKindName is how the pages name a kind of app.
func appKindName(kind string) string {
	switch kind {
	case control.KindWeb:
		return "Web app"
	case control.KindInstalled:
		return "Installed app"
	case control.KindDeveloperManaged:
		return "Service account"
	case control.KindTraditional:
		return "Service account of one company"
	}
	return kind
}

func deliveryClass(state any) string {
	switch fmt.Sprint(state) {
	case "delivered":
		return "good"
	case "given up":
		return "bad"
	}
	return "busy"
}
