package stack

import (
	"context"

	"mpr/gateway"
	"mpr/observe"
)

// showUpstreams has operators see what the gateways of this process think of their upstreams. It
// asks the edition that serves at that moment.
func (s *system) showUpstreams() {
	labels := []string{"environment", "of", "upstream"}
	s.observe.Tables(observe.Table{
		Name: "mpr_upstream_out", Help: "Whether a gateway has left out an upstream, of a region's code, identity or login, and why.",
		Labels: append(labels, "reason"),
		Read: func(context.Context) (all []observe.Sample, err error) {
			s.eachUpstream(func(environment string, u *gateway.UpstreamState) {
				value := 0.
				if u.Out {
					value = 1
				}
				all = append(all, observe.Sample{Labels: []string{environment, u.Of, u.URL, u.Reason}, Value: value})
			})
			return all, nil
		},
	}, observe.Table{
		Name: "mpr_upstream_ejections_total", Help: "How often a gateway has left out an upstream.",
		Labels: labels, Grows: true,
		Read: func(context.Context) (all []observe.Sample, err error) {
			s.eachUpstream(func(environment string, u *gateway.UpstreamState) {
				all = append(all, observe.Sample{Labels: []string{environment, u.Of, u.URL}, Value: float64(u.Ejections)})
			})
			return all, nil
		},
	})
}

// eachUpstream goes through the upstreams of the gateways that serve. One that a region lists
// twice comes once: figures of one name would keep all others from being shown.
func (s *system) eachUpstream(do func(environment string, u *gateway.UpstreamState)) {
	for i := range s.config.Environments {
		name := s.config.Environments[i].Name
		s.mu.Lock()
		v := s.served[name]
		s.mu.Unlock()
		if v == nil {
			continue // it is starting
		}
		service := v.edition().gateway
		if service == nil {
			continue
		}
		type key struct{ of, url string }
		seen := map[key]bool{}
		for _, u := range service.Upstreams() {
			if k := (key{u.Of, u.URL}); !seen[k] {
				seen[k] = true
				do(name, &u)
			}
		}
	}
}
