package config

// Place is where a process of a region listens. Whoever opens a free port there writes down what it
// has become.
type Place struct {
	// Name is that of one of several processes; empty where there is only one.
	Name             string
	Listen, Internal *string
}

// Places are those of the region's processes; none where a foreign service stands in for it.
func (r *RegionConfig) Places() []Place {
	switch {
	case len(r.Upstreams) > 0:
		return nil
	case len(r.Processes) == 0:
		return []Place{{Listen: &r.Listen, Internal: &r.Internal}}
	}
	places := make([]Place, len(r.Processes))
	for i := range r.Processes {
		p := &r.Processes[i]
		places[i] = Place{p.Name, &p.Listen, &p.Internal}
	}
	return places
}
