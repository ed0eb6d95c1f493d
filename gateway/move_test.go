package gateway

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"mpr/company"
	"mpr/problem"
)

// gone answers as a region does that no longer owns the company.
func gone(region string, epoch int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if region != "" {
			w.Header().Set("Mpr-Region", region)
			w.Header().Set("Mpr-Epoch", fmt.Sprint(epoch))
		}
		problem.Write(w, r, problem.New(problem.WrongRegion, "not here"))
	}
}

// "A region that does not own the company at that epoch answers 421 (Misdirected Request)
// with where it went, if it knows. The gateway takes the newer placement and sends the
// call there once, if its body can still be sent."
func TestFollowsACompanyThatMoved(t *testing.T) {
	var first, second atomic.Int32
	g := start(t, handlers{
		"EU01": func(w http.ResponseWriter, r *http.Request) { first.Add(1); gone("US01", 4)(w, r) },
		"US01": func(w http.ResponseWriter, r *http.Request) { second.Add(1); echo(w, r) },
	})
	small := strings.Repeat("x", keepBody)
	got := g.send("POST", "/x", g.header(inEU01), strings.NewReader(small))
	got.want(t, 200, "")
	if !strings.Contains(got.body, "Mpr-Epoch: 4\r\n") || !strings.HasSuffix(got.body, "\n\n"+small) {
		t.Errorf("the second region got %.500s", got.body)
	}
	// What it has learned it needn't be told again.
	g.send("GET", "/x", g.header(inEU01), nil).want(t, 200, "")
	if first.Load() != 1 || second.Load() != 2 {
		t.Errorf("%d calls to the old region and %d to the new one", first.Load(), second.Load())
	}
	if p, ok := g.replica.Placement(inEU01); !ok || p.Region != "US01" || p.Epoch != 4 {
		t.Errorf("the replica says %+v", p)
	}
}

func TestBodiesThatCanBeSentAgain(t *testing.T) {
	trailer := http.Header{"X-Sum": {"123"}}
	for name, c := range map[string]struct {
		size    int
		length  int64
		trailer http.Header
		reads   bool // the first region reads the body before it answers
		status  int
	}{
		"none":                 {0, 0, nil, true, 200},
		"small":                {1000, 1000, nil, true, 200},
		"small, in chunks":     {1000, -1, trailer, true, 200},
		"small, unread":        {1000, -1, trailer, false, 200},
		"just":                 {keepBody, keepBody, nil, true, 200},
		"too large":            {keepBody + 1, keepBody + 1, nil, true, 503},
		"too large, in chunks": {1 << 20, -1, nil, true, 503},
	} {
		t.Run(name, func(t *testing.T) {
			g := start(t, handlers{
				"EU01": func(w http.ResponseWriter, r *http.Request) {
					if c.reads {
						_, err := io.Copy(io.Discard, r.Body)
						must2(err)
					} else {
						fullDuplex(w)
						w.Header().Set("Connection", "close")
					}
					gone("US01", 4)(w, r)
				},
				"US01": echo,
			})
			r := request(t, "POST", g.api.URL+"/x", g.header(inEU01), io.LimitReader(newStream(1<<30), int64(c.size)))
			r.ContentLength, r.Trailer = c.length, c.trailer
			if c.size == 0 {
				r.Body = http.NoBody
			}
			got := do(t, g.api.Client(), r)
			if c.status == 503 {
				got.want(t, 503, problem.CompanyMoving)
				if got.Header.Get("Retry-After") != "1" {
					t.Error("no Retry-After")
				}
				// The next one goes to the new region.
				g.send("POST", "/x", g.header(inEU01), strings.NewReader("again")).want(t, 200, "")
				return
			}
			got.want(t, 200, "")
			want, err := io.ReadAll(io.LimitReader(newStream(1<<30), int64(c.size)))
			must(t, err)
			if !strings.HasSuffix(got.body, "\n\n"+string(want)) {
				t.Error("the second region got another body")
			}
			if c.trailer != nil && !strings.Contains(got.body, "trailer X-Sum: 123\r\n") {
				t.Error("the trailer is lost")
			}
		})
	}
}

// A body of any size is sent again as long as no more of it than is kept has been read
// when the first region refuses. How much that is, is for the network to say: the call
// then arrives whole in the second region, or nothing of it does.
func TestLargeBodyRefusedEarly(t *testing.T) {
	const size = 16 << 20
	var whole atomic.Int32
	g := start(t, handlers{
		"EU01": func(w http.ResponseWriter, r *http.Request) {
			fullDuplex(w)
			w.Header().Set("Connection", "close")
			gone("US01", 4)(w, r)
		},
		"US01": func(w http.ResponseWriter, r *http.Request) {
			sum := sha256.New()
			if n, err := io.Copy(sum, r.Body); err == nil && n == size {
				whole.Add(1)
			}
			_, err := fmt.Fprintf(w, "%x", sum.Sum(nil))
			must2(err)
		},
	})
	body := newStream(size)
	r := request(t, "POST", g.api.URL+"/x", g.header(inEU01), body)
	r.ContentLength = size
	got := do(t, g.api.Client(), r)
	if got.StatusCode == 503 {
		got.want(t, 503, problem.CompanyMoving)
		if whole.Load() != 0 {
			t.Error("refused, and sent nevertheless")
		}
		return
	}
	got.want(t, 200, "")
	if got.body != fmt.Sprintf("%x", body.sum.Sum(nil)) || whole.Load() != 1 {
		t.Error("the second region got another body")
	}
}

// The first region refuses while the client is still sending; the rest goes to the second.
func TestBodyGoesOnAtTheNewRegion(t *testing.T) {
	g := start(t, handlers{
		"EU01": func(w http.ResponseWriter, r *http.Request) {
			fullDuplex(w)
			_, err := io.ReadFull(r.Body, make([]byte, 6))
			must2(err)
			gone("US01", 4)(w, r)
			must2(http.NewResponseController(w).Flush())
			if _, err := io.Copy(io.Discard, r.Body); err == nil { // until the gateway has turned away
				t.Error("the first region gets the rest")
			}
		},
		"US01": mirror,
	})
	c := g.dial()
	c.head(g, "POST /x", "Procore-Company-Id: "+inEU01.String(), "Transfer-Encoding: chunked")
	c.write("6\r\nhello\n\r\n")
	resp := c.answer("POST")
	got := make([]byte, len("you said hello\n"))
	if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != "you said hello\n" {
		t.Fatalf("%q, %v", got, err)
	}
	c.write("6\r\nworld\n\r\n0\r\n\r\n")
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "you said world\n" {
		t.Fatalf("%q, %v", rest, err)
	}
}

// "never loop": regions that point at one another, or nowhere, get a call as long as they know
// of newer placements.
func TestNeverLoops(t *testing.T) {
	for name, c := range map[string]struct {
		region string
		epoch  int
		calls  int32
	}{
		"each other":          {"US01", 4, 3},
		"itself":              {"EU01", 4, 2}, // it owns the company at another epoch, and then it doesn't
		"nowhere":             {"", 0, 1},
		"older":               {"US01", 2, 1},
		"the same epoch":      {"US01", 3, 1},
		"an unknown region":   {"XX01", 4, 1},
		"not a region":        {"us01", 4, 1},
		"an impossible epoch": {"US01", -4, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			again := func(region string, epoch int) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) { calls.Add(1); gone(region, epoch)(w, r) }
			}
			g := start(t, handlers{"EU01": again(c.region, c.epoch), "US01": again("EU01", c.epoch+1)})
			got := g.send("GET", "/x", g.header(inEU01), nil)
			got.want(t, 503, problem.CompanyMoving)
			if calls.Load() != c.calls {
				t.Errorf("%d calls, want %d", calls.Load(), c.calls)
			}
			if got.Header.Get("Mpr-Region") != "" || got.Header.Get("Mpr-Epoch") != "" {
				t.Errorf("our headers reach the client: %v", got.Header)
			}
		})
	}
}

// A change-over that is undone and tried again leaves one epoch after the other behind: a call
// follows them, and not for ever.
func TestFollowsEpochsToAnEnd(t *testing.T) {
	for name, c := range map[string]struct {
		until, calls int32
		status       int
		code         problem.Code
	}{
		"some":    {5, 6, 200, ""},
		"endless": {1 << 30, maxResent + 1, 503, problem.CompanyMoving},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
				if n := calls.Add(1); n <= c.until {
					gone("EU01", 3+int(n))(w, r)
				}
			}})
			g.send("POST", "/x", g.header(inEU01), strings.NewReader("x")).want(t, c.status, c.code)
			if calls.Load() != c.calls {
				t.Errorf("%d calls, want %d", calls.Load(), c.calls)
			}
		})
	}
}

// Where a change-over was undone a gateway may hear of the new epoch before the region does: the call
// waits until that has heard as well.
func TestWaitsForARegionThatIsBehind(t *testing.T) {
	var calls atomic.Int32
	g := start(t, handlers{"EU01": func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) <= 3 {
			gone("EU01", 2)(w, r)
		}
	}})
	g.send("POST", "/x", g.header(inEU01), strings.NewReader("x")).want(t, 200, "")
	if calls.Load() != 4 {
		t.Errorf("%d calls", calls.Load())
	}
}

// "However, you will not be able to access data from new Procore customers": the rules
// decide about the new placement too.
func TestLegacyDoorDoesNotFollowOut(t *testing.T) {
	g := start(t, handlers{"US01": gone("EU01", 4), "EU01": func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mpr-Question") == "" {
			t.Error("the legacy door reaches another region")
		}
	}})
	do(t, g.legacy.Client(), request(t, "GET", g.legacy.URL+"/x?company_id=4711", g.header(0), nil)).want(t, 403, problem.LegacyForbidden)
}

// The directory's word arrives by the watch.
func TestFollowsTheDirectory(t *testing.T) {
	g := start(t, handlers{"EU01": echo, "US01": func(w http.ResponseWriter, r *http.Request) { w.Header().Set("At", "US01") }})
	p, revision, err := g.directory.Get(t.Context(), inEU01)
	must(t, err)
	p.Region, p.Epoch = "US01", 4
	_, err = g.directory.Update(t.Context(), p, revision)
	must(t, err)
	g.until(func() bool { p, _ := g.replica.Placement(inEU01); return p.Epoch == company.Epoch(4) })
	if got := g.send("GET", "/x", g.header(inEU01), nil); got.Header.Get("At") != "US01" {
		t.Errorf("%s %s", got.Status, got.body)
	}
}
