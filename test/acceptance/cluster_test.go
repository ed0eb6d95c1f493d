package acceptance

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"mpr/test/nodes"
)

// "An external NATS cluster by URLs": the system works on one as on the embedded server, stays at
// work when a node dies, and goes on alone when all are gone.
func TestAClusterThatDies(t *testing.T) {
	s := newTopology(t)
	cluster, urls, _ := nodes.Cluster(t)
	s.on(t, urls)
	s.configure(t, "operations: {drain_delay: 1s}\n")
	second := s.secondGateway(t)
	ops := s.observed(t)
	doors := map[string]string{"gateway": s.Environments[0].API, "gateway 2": second}
	s.start(t, "control", "login", "US01", "US02", "EU01", "gateway", "gateway 2")
	s.populate(t)
	b := s.balance(t, doors, ops, "US01", "US02", "EU01")

	// "A NATS node killed under writes: no acknowledged placement lost."
	var acknowledged []company
	for i, n := range cluster[:2] {
		b.flows(t)
		n.Kill()
		for _, region := range []string{"US01", "EU01"} {
			var made company
			name := fmt.Sprintf("Made without node %d", i)
			s.runEventually(t, &made, "company", "create", "--name", name, "--region", region, "--idempotency-key", name+region)
			acknowledged = append(acknowledged, made)
		}
		leaves := s.in(t, regions[i])
		s.runEventually(t, &moved{}, "move", "start", fmt.Sprint(leaves.ID), "--to", regions[(i+1)%len(regions)])
		s.changesOver(t, leaves.ID)
		n.Run()
		b.flows(t)
	}
	b.flows(t)

	// "Control, login and the whole NATS cluster gone: calls to all regions go on, also after a gateway
	// is restarted in that state from its copy on disk; new revocations and moves wait."
	person := s.userTokens(t).Access
	foreign := s.in(t, foreignRegion).ID
	s.projects(t.Context(), person, foreign).want(t, 200)
	for _, n := range cluster {
		n.Kill()
	}
	b.flows(t)
	s.postRevoke(t, person) // login knows it; the gateways can't yet
	if out, err := s.mpr("move", "start", fmt.Sprint(s.Companies[0].ID), "--to", "US02"); err == nil {
		t.Errorf("a move was queued without the directory: %s", out)
	}
	if out, err := s.mpr("company", "create", "--name", "Waits", "--region", "US02"); err == nil {
		t.Errorf("a company was made without the directory: %s", out)
	}
	s.kill(t, "control", "login")
	b.flows(t)
	for _, name := range []string{"gateway", "gateway 2"} {
		s.stop(t, name)
		s.start(t, name)
		becomes(t, ops[name], 200)
		b.flows(t)
	}

	s.start(t, "login", "control")
	for _, n := range cluster {
		n.Run()
	}
	for _, c := range acknowledged {
		var there company
		s.runEventually(t, &there, "company", "show", fmt.Sprint(c.ID))
		if there.Region != c.Region || there.Name != c.Name {
			t.Errorf("acknowledged was %+v, and there is %+v", c, there)
		}
	}
	var made object
	s.runEventually(t, &made, "company", "create", "--name", "Waits", "--region", "US02", "--idempotency-key", "waits")
	eventually(t, readyWithin, func() (bool, string) {
		a := s.projects(t.Context(), person, foreign)
		return a.Status == 401, "the revocation that waited: " + a.String()
	})
	b.flows(t)
	b.end(t)
	s.stop(t, "gateway", "gateway 2", "control", "login", "US01", "US02", "EU01")
}

// on has all roles use an external cluster.
func (s *topology) on(t *testing.T, urls []string) {
	t.Helper()
	data, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(data), "directory: {")
	_, after, _ := strings.Cut(rest, "}")
	yaml := fmt.Sprintf(`%sdirectory: {urls: ["%s"], replicas: 3}%s`, before, strings.Join(urls, `", "`), after)
	if err := os.WriteFile(s.config, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
}

// changesOver waits until a company has moved.
func (s *topology) changesOver(t *testing.T, id int64) {
	t.Helper()
	eventually(t, readyWithin, func() (bool, string) {
		var m moved
		s.run(t, &m, "move", "status", fmt.Sprint(id))
		if m.Phase == "aborted" {
			t.Fatalf("the move of company %d was given up", id)
		}
		return m.Phase == "retained", m.Phase + " " + m.Problem
	})
}
