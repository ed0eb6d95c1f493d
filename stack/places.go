package stack

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"mpr/company"
	"mpr/config"
	"mpr/intercom"
)

// findPlace is where this process of a region listens. The name may be empty where the region has only one.
func findPlace(r *config.RegionConfig, name string) (config.Place, error) {
	places := r.Places()
	var names []string
	for _, p := range places {
		if p.Name == name {
			return p, nil
		}
		names = append(names, p.Name)
	}
	switch {
	case name == "" && len(places) == 1:
		return places[0], nil
	case name == "":
		return config.Place{}, fmt.Errorf("region %s has several processes: say by --process which of them this is: %s", r.Code, strings.Join(names, ", "))
	case len(r.Processes) == 0:
		return config.Place{}, fmt.Errorf("region %s has one process without a name: leave out --process %s, or name its processes in the configuration", r.Code, name)
	}
	return config.Place{}, fmt.Errorf("region %s has no process %q: the configuration has %s", r.Code, name, strings.Join(names, ", "))
}

// configuredRegions are those whose addresses registerRegions tells the directory.
func configuredRegions(e *config.Environment) []company.Region {
	codes := make([]company.Region, len(e.Regions))
	for i := range e.Regions {
		codes[i] = company.Region(e.Regions[i].Code)
	}
	return codes
}

// newTransport makes connections to our other processes.
func (s *system) newTransport() http.RoundTripper {
	dial, secure := s.toAny((&net.Dialer{}).DialContext), intercom.Dial(nil)
	if s.peer != nil {
		secure = s.toAny(s.dialTLS)
	}
	return intercom.NewTransport(dial, secure)
}

// toAny connects to another process of a region where the one at the address can't be reached: all of
// them have the region's database, and the directory names the first.
func (s *system) toAny(dial intercom.Dial) intercom.Dial {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		addresses := s.processesAt(address)
		if len(addresses) < 2 {
			return dial(ctx, network, address)
		}
		var errs []error
		for _, at := range addresses {
			conn, err := func() (net.Conn, error) {
				ctx, cancel := context.WithTimeout(ctx, s.config.Gateway.ConnectTimeout)
				defer cancel()
				return dial(ctx, network, at)
			}()
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
}

// processesAt are the internal addresses of all processes of the region of which one has this address.
func (s *system) processesAt(address string) []string {
	for i := range s.config.Environments {
		e := &s.config.Environments[i]
		for j := range e.Regions {
			var all []string
			found := false
			for _, p := range e.Regions[j].Places() {
				all = append(all, *p.Internal)
				found = found || *p.Internal == address
			}
			if found {
				return all
			}
		}
	}
	return nil
}
