package directory

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"mpr/company"
	"mpr/problem"
)

// backedUpLines are the lines of a backup.
func backedUpLines(t *testing.T, nc *nats.Conn) []string {
	t.Helper()
	var to bytes.Buffer
	n, err := Backup(t.Context(), nc, &to)
	lines := slices.Collect(strings.Lines(to.String()))
	if err != nil || n != len(lines) {
		t.Fatalf("backed up %d records in %d lines: %v", n, len(lines), err)
	}
	return lines
}

// filled is a directory with records of all kinds.
func filled(t *testing.T) []string {
	t.Helper()
	_, nc := start(t, t.TempDir())
	d := openDirectory(t, nc)
	if _, err := d.Load(t.Context(), consecutive(1, 1201)); err != nil {
		t.Fatal(err)
	}
	for i, code := range []company.Region{"US01", "US02", "EU01"} {
		if err := d.PutRegion(t.Context(), region(code, i)); err != nil {
			t.Fatal(err)
		}
	}
	var now PolicyRecord
	for range 3 { // its history counts as well
		var err error
		if now, err = d.SetPolicy(t.Context(), PolicyRecord{By: "ada"}, now.Revision); err != nil {
			t.Fatal(err)
		}
	}
	kv, err := bucket(t.Context(), d.js, "limits_production", 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, app := range []string{"one", "two"} {
		if _, err := kv.Put(t.Context(), app, []byte(`{"hour":7}`)); err != nil {
			t.Fatal(err)
		}
	}
	return backedUpLines(t, nc)
}

// A restore that was cut off, wherever that was, is completed by the next one, without a look at what
// it has done; and what isn't from the backup is never changed.
func TestARestoreIsRepeated(t *testing.T) {
	lines := filled(t)
	whole := strings.Join(lines, "")
	conflict := problem.New(problem.Conflict, "")
	_, nc := start(t, t.TempDir())
	if err := Unused(t.Context(), nc, strings.NewReader(whole)); err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut < len(lines); cut += 1 + len(lines)/12 {
		// What is behind the end of a file that is cut off in the middle of a line isn't known.
		text := strings.Join(lines[:cut], "") + lines[cut][:len(lines[cut])/2]
		if _, err := Restore(t.Context(), nc, 1, strings.NewReader(text)); err == nil || errors.Is(err, conflict) {
			t.Fatalf("cut off in line %d: %v", cut, err)
		}
	}
	if err := Unused(t.Context(), nc, strings.NewReader(whole)); !errors.Is(err, conflict) {
		t.Errorf("a directory with records is unused: %v", err)
	}
	for range 2 {
		if n, err := Restore(t.Context(), nc, 1, strings.NewReader(whole)); err != nil || n != len(lines) {
			t.Fatalf("%d records of %d: %v", n, len(lines), err)
		}
	}
	got, want := slices.Sorted(slices.Values(backedUpLines(t, nc))), slices.Sorted(slices.Values(lines))
	if !slices.Equal(got, want) {
		t.Errorf("%d records are restored, want %d", len(got), len(want))
	}
}

// Records that aren't those of the backup keep a restore from going on.
func TestARestoreChangesNothingOfOthers(t *testing.T) {
	lines := filled(t)
	whole := strings.Join(lines, "")
	for what, change := range map[string]func(jetstream.JetStream) error{
		"another placement": func(js jetstream.JetStream) error {
			d := openDirectory(t, js.Conn())
			return d.Create(t.Context(), place(7, "EU01", 4))
		},
		"a placement more": func(js jetstream.JetStream) error {
			return openDirectory(t, js.Conn()).Create(t.Context(), place(5000, "EU01", 4))
		},
		"another limit": func(js jetstream.JetStream) error {
			kv, err := bucket(t.Context(), js, "limits_production", 1, 1)
			if err == nil {
				_, err = kv.Put(t.Context(), "one", []byte(`{"hour":8}`))
			}
			return err
		},
		"a limit more": func(js jetstream.JetStream) error {
			kv, err := bucket(t.Context(), js, "limits_production", 1, 1)
			if err == nil {
				_, err = kv.Put(t.Context(), "three", []byte(`{"hour":8}`))
			}
			return err
		},
	} {
		t.Run(what, func(t *testing.T) {
			_, nc := start(t, t.TempDir())
			js, err := jetstream.New(nc)
			if err == nil {
				err = change(js)
			}
			if err != nil {
				t.Fatal(err)
			}
			before := backedUpLines(t, nc)
			if _, err := Restore(t.Context(), nc, 1, strings.NewReader(whole)); !errors.Is(err, problem.New(problem.Conflict, "")) {
				t.Errorf("restored over it: %v", err)
			}
			for _, line := range before {
				if !slices.Contains(backedUpLines(t, nc), line) {
					t.Errorf("%s is gone", line)
				}
			}
		})
	}
}
