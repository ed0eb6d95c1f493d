package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"mpr/company"
	"mpr/conform"
)

type regionConformCommand struct {
	URL           string     `arg:"" optional:"" help:"Base URL of the region's internal address, such as http://127.0.0.1:4013."`
	Company       company.ID `placeholder:"ID" help:"A throwaway company that the region owns. The suite deletes its rows there, and brings them back."`
	Data          string     `default:"mpr-data" placeholder:"DIR" env:"MPR_DATA" help:"Data folder with the internal secret (default mpr-data)."`
	SecretFile    string     `placeholder:"FILE" env:"MPR_SECRET_FILE" help:"File with the secret that the region wants to be shown (default: internal.secret in the data folder)."`
	As            string     `default:"ZZ99" placeholder:"CODE" help:"Code under which the suite plays the other region (default ZZ99)."`
	API           string     `name:"api" placeholder:"URL" help:"Address at which gateways reach the region, for the checks of API calls. Without it they are skipped."`
	APITokenFile  string     `name:"api-token-file" placeholder:"FILE" env:"MPR_API_TOKEN_FILE" help:"File with an access token of somebody who may read and change the company."`
	CompanyHeader string     `default:"Procore-Company-Id" placeholder:"NAME" help:"Header that names the company (default Procore-Company-Id)."`
	Only          []string   `placeholder:"NAME" help:"Make these checks only, by name or by what stands before its dot; separated by commas."`
	List          bool       `help:"List the checks, and make none."`
	Yes           bool       `short:"y" help:"Don't ask."`
	JSON          bool       `name:"json" help:"Print a line of JSON for each check, and one for the summary."`
}

// Help is shown by --help, below the command's one sentence.
func (c *regionConformCommand) Help() string {
	return `The suite plays the other region and the directory from memory: it has the company leave and come back several times, deletes its rows in the region in between, and sends what must be refused. ` +
		`Use a company that nobody needs, in a region that isn't in service: at the end the region owns it at a higher epoch than any directory has heard of, and it can't be moved by movers any more. ` +
		`If the suite is killed half-way, the company's rows may be lost; when it is stopped by Ctrl-C it brings the company back first. docs/region-contract.md says what a region must do.`
}

func (c *regionConformCommand) Run(ctx context.Context, t *terminal) error {
	checks, err := conform.Chosen(c.Only)
	if err != nil {
		return wrongUsage("--only: %v; see `mpr region conform --list`", err)
	}
	if c.List {
		return c.list(t, checks)
	}
	o, err := c.options()
	if err != nil {
		return err
	}
	if !c.Yes {
		ok, err := t.confirm(fmt.Sprintf("Company %d of the region at %s is to leave and come back several times. Its rows there are deleted in between, and no mover can move it afterwards. Does nobody need it?", c.Company, c.URL))
		if err != nil {
			return err
		}
		if !ok {
			return errors.New("not confirmed: nothing was done")
		}
	}
	return untilStopped(ctx, t, func(ctx context.Context) error { return c.conform(ctx, t, *o) })
}

func (c *regionConformCommand) list(t *terminal, checks []conform.Check) error {
	if c.JSON {
		for _, check := range checks {
			if err := writeLine(t.out, check); err != nil {
				return err
			}
		}
		return nil
	}
	return t.answer(false, nil, func(w io.Writer) {
		rows := make([][]string, len(checks))
		for i, check := range checks {
			rows[i] = []string{check.Name, map[bool]string{true: "--api", false: "-"}[check.API], check.Rule}
		}
		table(w, []string{"CHECK", "NEEDS", "SENTENCE OF THE CONTRACT"}, rows)
	})
}

// options reads the flags, and the secrets from their files.
func (c *regionConformCommand) options() (*conform.Options, error) {
	if c.URL == "" || c.Company == 0 {
		return nil, wrongUsage("name the region's internal address and a throwaway company: mpr region conform URL --company ID")
	}
	if (c.API == "") != (c.APITokenFile == "") {
		return nil, wrongUsage("--api and --api-token-file go together")
	}
	code, err := company.ParseRegion(c.As)
	if err != nil {
		return nil, wrongUsage("--as: %v", err)
	}
	o := &conform.Options{URL: c.URL, Company: c.Company, Region: code, API: c.API, CompanyHeader: c.CompanyHeader, Only: c.Only}
	for _, address := range []string{c.URL, c.API} {
		if u := parseBaseURL(address); address != "" && (u == nil || u.User != nil || u.RawQuery != "") {
			return nil, wrongUsage("expected a base URL such as http://127.0.0.1:4013, without a secret in it")
		}
	}
	if c.SecretFile == "" {
		c.SecretFile = filepath.Join(c.Data, "internal.secret")
	}
	if o.Secret, err = readSecret("the region's internal secret", c.SecretFile); err != nil {
		return nil, fmt.Errorf("%w; name its file with --secret-file", err)
	}
	if c.APITokenFile != "" {
		if o.Token, err = readSecret("the access token", c.APITokenFile); err != nil {
			return nil, err
		}
	}
	return o, nil
}

func readSecret(what, path string) (string, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the operator names the path
	if err != nil {
		return "", fmt.Errorf("read %s: %w", what, err)
	}
	text := strings.TrimSpace(string(data))
	if text == "" || strings.ContainsAny(text, "\r\n") {
		return "", fmt.Errorf("read %s: %s isn't one line with it", what, path)
	}
	return text, nil
}

func (c *regionConformCommand) conform(ctx context.Context, t *terminal, o conform.Options) error {
	var failed []string
	summary, err := conform.Run(ctx, o, func(r conform.Result) {
		if r.Outcome == conform.Fail {
			failed = append(failed, r.Name)
		}
		_ = t.answer(c.JSON, r, func(w io.Writer) { printResult(w, r) }) // where nobody reads any more, the company is brought back all the same
	})
	if summary == nil {
		return err
	}
	printed := t.answer(c.JSON, map[string]any{"summary": summary}, func(w io.Writer) { c.printSummary(w, summary, failed) })
	switch {
	case err != nil:
		return fmt.Errorf("it was stopped after %d checks", summary.Passed+summary.Failed+summary.Skipped)
	case !summary.Conforms():
		return fmt.Errorf("the region doesn't keep the contract: checks that failed: %d, that couldn't be made: %d", summary.Failed, summary.Blocked)
	}
	return printed
}

func printResult(w io.Writer, r conform.Result) {
	clean := printable([]string{r.Want, r.Got, r.Why})
	switch r.Outcome { // a bufio.Writer keeps errors until Flush
	case conform.Fail:
		_, _ = fmt.Fprintf(w, "%-7s  %s\n           contract  %s\n           expected  %s\n           got       %s\n", r.Outcome, r.Name, r.Rule, clean[0], clean[1])
	case conform.Skipped:
		_, _ = fmt.Fprintf(w, "%-7s  %-24s  %s\n", r.Outcome, r.Name, clean[2])
	default:
		_, _ = fmt.Fprintf(w, "%-7s  %s\n", r.Outcome, r.Name)
	}
}

func (c *regionConformCommand) printSummary(w io.Writer, s *conform.Summary, failed []string) {
	_, _ = fmt.Fprintf(w, "\n%d checks: %d passed, %d failed, %d skipped", s.Passed+s.Failed+s.Skipped, s.Passed, s.Failed, s.Skipped)
	if s.Blocked > 0 {
		_, _ = fmt.Fprintf(w, ", %d of them for what the region doesn't do", s.Blocked)
	}
	_, _ = fmt.Fprintln(w, ".")
	if s.Serving {
		_, _ = fmt.Fprintf(w, "The region owns company %d again, at epoch %d.\n", c.Company, s.Epoch)
	} else {
		_, _ = fmt.Fprintf(w, "The region does NOT own company %d again.\n", c.Company)
	}
	if s.Trouble != "" {
		_, _ = fmt.Fprintf(w, "It couldn't be brought back as it was: %s.\n", printable([]string{s.Trouble})[0])
	}
	switch {
	case len(failed) > 0:
		next(w, "mpr region conform %s --company %d --only %s", c.URL, c.Company, failed[0])
	case c.API == "" && len(c.Only) == 0:
		next(w, "mpr region conform %s --company %d --only door --api URL --api-token-file FILE", c.URL, c.Company)
	}
}
