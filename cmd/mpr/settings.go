package main

import (
	"context"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"

	"mpr/config"
)

// lastPort is the highest first port whose block still fits.
const lastPort = 65535 - config.OffsetProxy

// settings are the flags of commands that read the configuration.
type settings struct {
	Config string `placeholder:"FILE" env:"MPR_CONFIG" help:"The configuration; without it, the defaults. mpr.yaml in the repository explains all."`
	Data   string `placeholder:"DIR" env:"MPR_DATA" help:"Folder of all that is kept (default mpr-data, or what the configuration says)."`
	Stores string `placeholder:"DSN" env:"MPR_STORES" help:"PostgreSQL database for the stores that the configuration names no place for, a schema each (default: SQLite files in the data folder, or what the configuration says)."`
	Port   int    `default:"4000" help:"First port of the block for addresses that the configuration leaves open."`
}

func (s *settings) load() (*config.Config, error) {
	if s.Port < 0 || s.Port > lastPort {
		return nil, wrongUsage("--port %d: choose a port from 1 to %d, or 0 for free ports", s.Port, lastPort)
	}
	return config.Load(s.Config, s.Port, s.Data, s.Stores)
}

// logging are the flags of commands that go on until they are stopped.
type logging struct {
	Log string `enum:"debug,info,warn,error," default:"" placeholder:"LEVEL" help:"Log to standard error from this level on: debug, info, warn or error."`
}

// start sets the log up.
func (l *logging) start(t *terminal, otherwise slog.Level) {
	level := otherwise
	if l.Log != "" {
		_ = level.UnmarshalText([]byte(l.Log)) // one of the enum
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(t.err, &slog.HandlerOptions{Level: level})))
}

// untilStopped runs f until SIGINT or SIGTERM ask it to end. A second signal ends the
// process at once.
func untilStopped(ctx context.Context, t *terminal, f func(context.Context) error) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	told := context.AfterFunc(ctx, func() {
		stop() // from here on, signals do what they do without us
		_, _ = fmt.Fprintln(t.err, "mpr: stopping, after the calls in flight; a second signal ends it at once")
	})
	defer told()
	return f(ctx)
}
