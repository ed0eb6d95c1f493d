package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"mpr/company"
	"mpr/control"
	"mpr/stack"
)

// regionCommands are the role, which needs no word of its own, and the commands about
// regions.
type regionCommands struct {
	Run  regionCommand     `cmd:"" default:"withargs" help:"Run a region (the word run may be left out)."`
	Add  regionAddCommand  `cmd:"" help:"Tell the directory of a region that isn't in the configuration, or of its new addresses."`
	List regionListCommand `cmd:"" help:"List the regions."`

	Drain regionDrainCommand `cmd:"" help:"Close a region to new companies, and queue the moves of all its companies to other ones."`
	Open  regionOpenCommand  `cmd:"" help:"Open a region again that was drained."`

	Conform regionConformCommand `cmd:"" help:"Hold a region to the contract of moves, with a throwaway company."`
}

type regionCommand struct {
	role
	Env  string `placeholder:"NAME" env:"MPR_ENV" help:"The environment to serve (default: all that have a region with this code)."`
	Code string `required:"" help:"The region's code, such as EU01."`

	Process string `placeholder:"NAME" env:"MPR_PROCESS" help:"Which of the region's processes this is, where the configuration names several."`
}

func (c *regionCommand) Run(ctx context.Context, t *terminal) error {
	return c.run(ctx, t, stack.RoleOptions{Role: stack.RoleRegion, Environment: c.Env, Region: c.Code, Process: c.Process})
}

type regionAddCommand struct {
	admin
	Code     string   `required:"" help:"The region's code, such as EU01."`
	Number   int      `required:"" help:"Its number, 0 to 255, which stands in the high bits of its ids and never changes."`
	Upstream []string `required:"" sep:"none" placeholder:"URL" help:"Base URL that answers API calls for the region; may be repeated."`
	Health   string   `name:"health-path" placeholder:"PATH" help:"What gateways GET to see whether an upstream is well, such as /readyz (default: they only connect to it)."`
	Internal string   `placeholder:"URL" help:"Base URL of its internal listener. Leave it out where a foreign service stands in for the region."`
}

func (c *regionAddCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	info, err := client.AddRegion(ctx, control.NewRegion{
		Code: company.Region(c.Code), Number: c.Number, Upstreams: c.Upstream, HealthPath: c.Health, Internal: c.Internal,
	})
	if err != nil {
		return err
	}
	return t.answer(c.JSON, info, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "The directory knows region %s, number %d.\n", info.Code, info.Number)
		next(w, "mpr company create --region %s --name NAME", info.Code)
	})
}

type regionListCommand struct{ admin }

func (c *regionListCommand) Run(ctx context.Context, t *terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	regions, err := client.Regions(ctx)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, control.RegionList{Regions: regions}, func(w io.Writer) {
		rows := make([][]string, len(regions))
		for i, r := range regions {
			state := "open"
			if r.Draining {
				state = "draining"
			}
			rows[i] = []string{string(r.Code), strconv.Itoa(r.Number), strings.Join(r.Upstreams, " "), orDash(r.Internal), state}
		}
		table(w, []string{"CODE", "NUMBER", "UPSTREAMS", "INTERNAL", "STATE"}, rows)
	})
}

type regionOpenCommand struct {
	admin
	Region string `arg:"" help:"The region to open, such as US02."`
}

func (c *regionOpenCommand) Run(ctx context.Context, t *terminal) error {
	if _, err := company.ParseRegion(c.Region); err != nil {
		return wrongUsage("%v", err)
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	info, err := client.DrainRegion(ctx, company.Region(c.Region), false)
	if err != nil {
		return err
	}
	return t.answer(c.JSON, info, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "Region %s takes new companies. Moves away from it that are under way go on.\n", info.Code)
		next(w, "mpr move list --active%s", c.environmentFlag())
	})
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
