package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"mpr/company"
)

// move moves a company to another region by compare-and-set, as a mover does, and answers when
// the last of the replicas knew.
func (s *system) move(ctx context.Context, id company.ID, replicas []*child) (t moment, err error) {
	p, revision, err := s.kept.Get(ctx, id)
	if err != nil {
		return t, err
	}
	p.Epoch++
	if p.Region = codes[0]; p.Epoch%2 == 0 {
		p.Region = codes[1]
	}
	seen := make([]answer, len(replicas))
	failed := make([]error, len(replicas))
	var asked, answered sync.WaitGroup
	for i, c := range replicas {
		asked.Add(1)
		answered.Go(func() {
			err := c.write.Encode(question{Await: &change{id, p.Epoch}})
			asked.Done()
			if err == nil {
				err = c.read.Decode(&seen[i])
			}
			if failed[i] = err; seen[i].Error != "" {
				failed[i] = errors.New(seen[i].Error)
			}
		})
	}
	asked.Wait()
	if t.began, err = clock(); err != nil {
		return t, err
	}
	_, err = s.kept.Update(ctx, p, revision)
	if err != nil {
		return t, fmt.Errorf("change the placement of company %d: %w", id, err)
	}
	if t.answered, err = clock(); err != nil {
		return t, err
	}
	answered.Wait()
	for _, a := range seen {
		t.last = max(t.last, a.At)
	}
	return t, errors.Join(failed...)
}
