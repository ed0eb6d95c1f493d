package main

import (
	"fmt"
	"io"
	"time"

	"mpr/pki"
)

type pkiRotateCommand struct{ pkiFolder }

// Run goes one step on. Each step needs what the one before has made to be with all processes,
// which only the operator knows.
func (c *pkiRotateCommand) Run(t *terminal) error {
	held, err := c.lock("rotate")
	if err != nil {
		return err
	}
	defer held.Close() //nolint:errcheck // the lock ends with us
	ca, err := c.open()
	if err != nil {
		return err
	}
	if ca.Stage() == pki.Signing {
		all, err := c.list(ca)
		if err != nil {
			return err
		}
		for _, o := range all {
			if o.State == pkiForeign {
				return fmt.Errorf("%s is still of the CA before, and would be refused without it: `mpr pki renew %s`, take what it makes to the processes, and then go on", o.Name, c.Dir)
			}
		}
	}
	ca, err = ca.Rotate(time.Now())
	if err != nil {
		return err
	}
	if err := ca.Write(c.file(pkiCA), c.file(pkiCAKey)); err != nil {
		return err
	}
	ends := ca.Certificate.NotAfter
	return t.answer(c.JSON, map[string]any{"ca_file": c.file(pkiCA), "stage": ca.Stage(), "ends": ends}, func(w io.Writer) {
		switch ca.Stage() {
		case pki.Announced:
			_, _ = fmt.Fprintf(w, "%s also holds the CA that comes next, which doesn't sign yet. Take the file to all processes.\n", c.file(pkiCA))
			next(w, "mpr pki rotate %s, once all of them have it", c.Dir)
		case pki.Signing:
			_, _ = fmt.Fprintf(w, "The new CA signs from now on, until %s; the one before is still trusted.\n", instant(ends))
			next(w, "mpr pki renew %s, take what it makes to the processes, and then mpr pki rotate %s", c.Dir, c.Dir)
		case pki.Settled:
			_, _ = fmt.Fprintf(w, "%s holds the new CA alone. Take the file to all processes: from then on nothing of the CA before is trusted.\n", c.file(pkiCA))
			next(w, "mpr pki show %s", c.Dir)
		}
	})
}
