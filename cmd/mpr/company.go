package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"mpr/company"
	"mpr/control"
	"mpr/problem"
)

type companyCommands struct {
	Create companyCreateCommand `cmd:"" help:"Create a company."`
	List   companyListCommand   `cmd:"" help:"List companies."`
	Show   companyShowCommand   `cmd:"" help:"Show where a company lives and what its region notes of it."`

	Sandbox companySandboxCommand `cmd:"" help:"Say whether the monthly sandbox gets a copy of it."`
}

type companyCreateCommand struct {
	admin
	Name           string     `required:"" help:"The company's name."`
	Region         string     `placeholder:"CODE" help:"Where it is to live (default: the default region)."`
	Onboarded      string     `placeholder:"DAY" help:"UTC day on which it became a customer, such as 2018-01-31 (default today). The legacy door's rules depend on it."`
	IdempotencyKey string     `placeholder:"KEY" help:"Makes it safe to repeat the command: the same key is the same company, and is refused with other content."`
	ID             company.ID `placeholder:"ID" help:"Its id, for a region that a foreign service stands in for."`
}

func (c *companyCreateCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if c.IdempotencyKey == "" {
		c.IdempotencyKey = rand.Text()
	}
	made, err := client.CreateCompany(ctx, control.NewCompany{
		Name: c.Name, Region: company.Region(c.Region), Onboarded: c.Onboarded, IdempotencyKey: c.IdempotencyKey, ID: c.ID,
	})
	if err != nil && problem.From(err).Code.Status() >= http.StatusInternalServerError {
		// The company may have been made: the same key finds it.
		return fmt.Errorf("%w\nTry again with --idempotency-key %s, so that it isn't made twice", err, c.IdempotencyKey)
	}
	if err != nil {
		return err
	}
	return t.answer(c.JSON, made, func(w io.Writer) {
		list(w, "id", made.ID.String(), "name", made.Name, "region", string(made.Region),
			"epoch", epoch(made.Epoch), "onboarded", made.Onboarded)
		next(w, "mpr user create --login LOGIN --name NAME --company %d%s", made.ID, c.environmentFlag())
	})
}

type companyListCommand struct {
	admin
	Region string `placeholder:"CODE" help:"Only those that live in this region."`
	Search string `short:"q" placeholder:"TEXT" help:"Only those in whose name each word of the text begins a word."`
	Limit  int    `default:"100" help:"At most so many; 0 for all."`
}

func (c *companyListCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	query := control.CompanyQuery{Region: company.Region(c.Region), Text: c.Search}
	all := control.CompanyPage{Companies: []control.Company{}}
	for more := true; more; more = all.Next != 0 && (c.Limit == 0 || len(all.Companies) < c.Limit) {
		if c.Limit > 0 {
			query.PerPage = min(c.Limit-len(all.Companies), 1000)
		}
		page, err := client.Companies(ctx, query)
		if err != nil {
			return err
		}
		all.Companies = append(all.Companies, page.Companies...)
		all.Next, query.After = page.Next, page.Next
	}
	return t.answer(c.JSON, all, func(w io.Writer) {
		rows := make([][]string, len(all.Companies))
		for i, one := range all.Companies {
			rows[i] = []string{one.ID.String(), string(one.Region), epoch(one.Epoch), one.Onboarded, one.Name}
		}
		table(w, []string{"ID", "REGION", "EPOCH", "ONBOARDED", "NAME"}, rows)
		if all.Next != 0 {
			_, _ = fmt.Fprintf(w, "There are more: --limit 0 lists all.\n")
		}
		if len(all.Companies) == 0 {
			next(w, "mpr company create --name NAME%s", c.environmentFlag())
		}
	})
}

type companyShowCommand struct {
	admin
	ID company.ID `arg:"" help:"The company's id."`
}

func (c *companyShowCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	d, err := client.Company(ctx, c.ID)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, d, func(w io.Writer) {
		fence := ""
		if d.Fence != nil {
			fence = fmt.Sprintf("%s at epoch %d", d.Fence.State, d.Fence.Epoch)
		}
		list(w, "id", d.ID.String(), "name", d.Name, "region", string(d.Region), "epoch", epoch(d.Epoch),
			"onboarded", d.Onboarded, "fence", fence, "unknown", d.Unknown)
	})
}

func epoch(e company.Epoch) string { return strconv.FormatInt(int64(e), 10) }
