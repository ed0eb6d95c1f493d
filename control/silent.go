package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"mpr/company"
	"mpr/problem"
)

// SilentRegion is a region of ours that a survey goes without.
type SilentRegion struct {
	Region company.Region `json:"region"`
	// Reason is why its fences couldn't be read.
	Reason string `json:"reason"`
}

// String says it to a person.
func (s SilentRegion) String() string { return fmt.Sprintf("%s (%s)", s.Region, s.Reason) }

// named lists regions for a sentence.
func named(silent []SilentRegion) string {
	codes := make([]string, len(silent))
	for i, s := range silent {
		codes[i] = string(s.Region)
	}
	return strings.Join(codes, ", ")
}

// askedFor is how long a region may take for the first of its fences. One that is stopped or cut
// off must not hold up those that are well.
const askedFor = 5 * time.Second

// ask reads the first fences of all regions at once, and leaves out those that don't answer.
func (v *survey) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, askedFor)
	defer cancel()
	failed := make([]error, len(v.regions))
	var all sync.WaitGroup
	for i, r := range v.regions {
		all.Go(func() { _, failed[i] = r.next(ctx) })
	}
	all.Wait()
	answering := v.regions[:0]
	for i, r := range v.regions {
		if failed[i] == nil {
			answering = append(answering, r)
			continue
		}
		slog.WarnContext(ctx, "a region's fences can't be read", "region", r.info.Code, "error", failed[i])
		v.silent = append(v.silent, SilentRegion{r.info.Code, whySilent(failed[i])})
	}
	v.regions = answering
	slices.SortFunc(v.silent, func(a, b SilentRegion) int { return cmp.Compare(a.Region, b.Region) })
}

// whySilent is the cause in a few words, for operators: they know where a region is.
func whySilent(err error) string {
	if op, is := errors.AsType[*net.OpError](err); is && op.Op == "dial" && !op.Timeout() {
		return op.Error() // such as dial tcp 127.0.0.1:4101: connect: connection refused
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Sprintf("no answer within %s", askedFor)
	}
	p := problem.From(err)
	return strings.TrimSuffix(p.Message, ".")
}

// unsure says whether a company can't be judged: none of the regions that answer owns it, and one
// that doesn't may.
func (s *standing) unsure() bool {
	return len(s.silent) > 0 && !slices.ContainsFunc(s.fences, func(f RegionFence) bool { return f.State == stateOwned })
}
