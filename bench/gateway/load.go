package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// callOnce calls a company and checks the whole answer.
func (j *job) callOnce(ctx context.Context, client *http.Client, base, token string, i int) error {
	id := number(j.calledOne(i))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path(i), http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Procore-Company-Id", id.String())
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if want := body(codes[j.calledOne(i)%len(codes)]); resp.StatusCode != http.StatusOK || string(got) != want {
		return fmt.Errorf("company %d: %s with %.200q, not 200 with %.40q and so on", id, resp.Status, got, want)
	}
	return nil
}

// path is what a call asks for.
func path(i int) string { return "/rest/v1.0/projects/" + strconv.Itoa(1000+i%50) }

// check calls each of the companies, and with a wrong token whoever looks at it.
func (j *job) check(ctx context.Context, p *proxy) error {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // a certificate of our own
	defer client.CloseIdleConnections()
	for i := range called {
		if err := j.callOnce(ctx, client, "http://"+p.address, p.tokens[i%tokens], i); err != nil {
			return err
		}
	}
	if p.tls != "" {
		if err := j.callOnce(ctx, client, "https://"+p.tls, p.tokens[0], 0); err != nil {
			return err
		}
	}
	if !p.checks {
		return nil
	}
	wrong := []byte(p.tokens[0])
	if at := strings.LastIndexByte(p.tokens[0], '.') + 10; wrong[at] == 'A' { // in the signature
		wrong[at] = 'B'
	} else {
		wrong[at] = 'A'
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+path(0), http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+string(wrong))
	req.Header.Set("Procore-Company-Id", number(0).String())
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusUnauthorized {
		return fmt.Errorf("a token with a wrong signature was answered %s", resp.Status)
	}
	return nil
}

// script has wrk send the calls in turn, and print what came of them as a line of JSON.
func (j *job) script(name string, accessTokens []string) error {
	var s strings.Builder
	s.WriteString("local calls, at = {}, 0\nfunction init()\n  local c = {\n")
	for i := range called {
		fmt.Fprintf(&s, "    {%q, %q, %q},\n", path(i), number(j.calledOne(i)).String(), accessTokens[i%tokens])
	}
	s.WriteString(`  }
  for i, v in ipairs(c) do
    calls[i] = wrk.format("GET", v[1], {["Host"] = "api.procore.com", ["Accept"] = "*/*", ["User-Agent"] = "bench", ["Procore-Company-Id"] = v[2], ["Authorization"] = "Bearer " .. v[3]})
  end
  at = math.random(#calls)
end
function request()
  at = at % #calls + 1
  return calls[at]
end
function done(summary, latency)
  local e = summary.errors
  print(string.format('{"calls":%d,"us":%d,"failed":%d,"p50":%f,"p99":%f}', summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
`)
	return j.write(name, s.String())
}

// outcome is what came of a round.
type outcome struct {
	Calls  int     `json:"calls"`
	Micros float64 `json:"us"`
	Failed int     `json:"failed"`
	P50    float64 `json:"p50"` // in microseconds
	P99    float64 `json:"p99"`
}

// load sends calls for a while, as many as the proxy takes.
func (j *job) load(ctx context.Context, script, url string, length time.Duration) (o outcome, err error) {
	seconds := strconv.FormatFloat(length.Seconds(), 'f', 0, 64)
	out, err := exec.CommandContext(ctx, "wrk", "-t1", "-c"+strconv.Itoa(j.o.connections), "-d"+seconds+"s", "-s", j.path(script), url).CombinedOutput() //nolint:gosec // numbers and files of ours
	if err != nil {
		return o, fmt.Errorf("wrk: %w: %s; apt-get install haproxy nginx wrk", err, out)
	}
	at := strings.LastIndex(string(out), "{")
	if at < 0 {
		return o, fmt.Errorf("wrk says nothing of its calls: %s", out)
	}
	if err := json.Unmarshal(out[at:], &o); err != nil {
		return o, fmt.Errorf("wrk: %w: %s", err, out[at:])
	}
	if o.Failed > 0 || o.Calls == 0 {
		return o, fmt.Errorf("%d calls failed, %d were served: %s", o.Failed, o.Calls, out)
	}
	return o, nil
}

// fullLoad measures all proxies at full load, in rounds that take turns.
func (j *job) fullLoad(ctx context.Context, proxies []*proxy, secure bool, r *report) error {
	series := "plain"
	if secure {
		series = "tls"
	}
	var taking []*proxy
	for i, p := range proxies {
		if secure && p.tls == "" {
			continue
		}
		taking = append(taking, p)
		if err := j.script(fmt.Sprintf("%d.lua", i), p.tokens); err != nil {
			return err
		}
		r.progress("warm up " + p.name + ", " + series)
		// Connections stay with wrk only; what warms up is the proxy.
		if _, err := j.load(ctx, fmt.Sprintf("%d.lua", i), p.url(secure), j.o.length); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	for round := range j.o.rounds {
		r.progress(fmt.Sprintf("%s, round %d of %d", series, round+1, j.o.rounds))
		for k := range taking {
			p := taking[(k+round)%len(taking)] // nobody is always the first
			serves := p.Process
			if secure && p.secure != nil {
				serves = p.secure
			}
			before, err := serves.Accounted()
			if err != nil {
				return err
			}
			o, err := j.load(ctx, fmt.Sprintf("%d.lua", indexOf(proxies, p)), p.url(secure), j.o.length)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			after, err := serves.Accounted()
			if err != nil {
				return err
			}
			memory, _, err := serves.Memory()
			if err != nil {
				return err
			}
			r.add(series, p.name, sample{
				CPU: float64((after - before).Microseconds()) / float64(o.Calls), Rate: float64(o.Calls) / o.Micros * 1e6, P50: o.P50 / 1000, P99: o.P99 / 1000, Memory: memory / 1e6,
			})
		}
	}
	return nil
}

func indexOf(all []*proxy, p *proxy) int {
	for i := range all {
		if all[i] == p {
			return i
		}
	}
	return -1
}

func (p *proxy) url(secure bool) string {
	if secure {
		return "https://" + p.tls
	}
	return "http://" + p.address
}
