package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"time"

	"mpr/control"
)

type signInCommand struct {
	admin
	NoBrowser bool          `name:"no-browser" help:"Only print the URL, for a browser of your choice on this machine."`
	Port      int           `placeholder:"PORT" help:"The port of this machine that the browser comes back to (default any). Over ssh, forward it: ssh -L PORT:127.0.0.1:PORT HOST."`
	Wait      time.Duration `default:"10m" placeholder:"TIME" help:"How long to wait for the browser (default 10m)."`
}

func (c *signInCommand) Run(ctx context.Context, t *terminal) error {
	if c.Port < 0 || c.Port > 65535 || c.Wait <= 0 {
		return wrongUsage("--port must be a port from 1 to 65535, and --wait a time such as 10m")
	}
	if err := c.locate(); err != nil {
		return err
	}
	client := control.NewClient(c.base(), "", c.Env)
	page, err := client.SignInURL(ctx)
	if err != nil {
		return err
	}
	if page == "" {
		return errors.New("nobody can sign in there yet: its control.url isn't set. Use --token-file FILE until it is")
	}
	// RFC 8252 section 7.3: an address of this machine, and never the name localhost.
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", c.Port))
	if err != nil {
		return fmt.Errorf("wait for the browser: %w", err)
	}
	address, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("wait for the browser at %s: it has no port", l.Addr())
	}
	query, verifier, state := control.SignInQuery(address.Port)
	page += "?" + query
	shown := "Sign in with your browser:"
	if !c.NoBrowser && openBrowser(ctx, page) != nil {
		shown = "No browser could be opened. Sign in with one on this machine:"
	}
	_, _ = fmt.Fprintf(t.err, "%s\n  %s\n", shown, page)
	ctx, cancel := context.WithTimeoutCause(ctx, c.Wait, fmt.Errorf("nobody has signed in within %s", c.Wait))
	defer cancel()
	code, err := awaitCode(ctx, l, state)
	if err != nil {
		return err
	}
	made, err := client.Redeem(ctx, control.Redemption{Code: code, Verifier: verifier})
	if err != nil {
		return err
	}
	saved := &savedSession{Admin: c.base(), Login: made.Session.Login, Secret: made.Secret, Expires: made.Session.Expires}
	if err := saved.save(); err != nil {
		return err
	}
	return t.answer(c.JSON, made.Session, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "You are signed in at %s as %s, with the role %s, until %s at the latest.\n", c.base(), made.Session.Login, made.Session.Role, instant(made.Session.Expires))
		if made.Session.Role == "developer" {
			_, _ = fmt.Fprintf(w, "With that role there is little to do here: an admin can grant another one, by `mpr operator grant %s --role viewer`.\n", made.Session.Login)
		}
		next(w, "mpr company list%s", c.environmentFlag())
	})
}

// awaitCode waits until a browser brings the code that belongs to the state.
func awaitCode(ctx context.Context, l net.Listener, state string) (string, error) {
	codes := make(chan string, 1)
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Referrer-Policy", "no-referrer")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			q := r.URL.Query()
			// Any page in the browser can send it here; only ours knows the state.
			if r.Method != http.MethodGet || r.URL.Path != "/" || q.Get("code") == "" || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(state)) != 1 {
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, "mpr waits for somebody to sign in, and this isn't it.\n")
				return
			}
			_, _ = io.WriteString(w, "You are signed in. Close this page, and go on at the command line.\n")
			select {
			case codes <- q.Get("code"):
			default: // it has one
			}
		}),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	var code string
	var err error
	select {
	case code = <-codes:
	case <-ctx.Done():
		err = context.Cause(ctx)
	case err = <-served:
		return "", fmt.Errorf("wait for the browser: %w", err)
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if server.Shutdown(ending) != nil {
		_ = server.Close() // the browser keeps a connection open that it doesn't use
	}
	<-served //nolint:errcheck // that it was closed
	return code, err
}

// openBrowser opens a page in the person's browser.
func openBrowser(ctx context.Context, page string) error {
	command, args := "xdg-open", []string{page}
	switch runtime.GOOS {
	case "darwin":
		command = "open"
	case "windows":
		command, args = "rundll32", []string{"url.dll,FileProtocolHandler", page}
	}
	path, err := exec.LookPath(command)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, path, args...).Run() //nolint:gosec // the page is a URL of the admin API that the person has chosen
}

type signOutCommand struct{ admin }

func (c *signOutCommand) Run(ctx context.Context, t *terminal) error {
	if err := c.locate(); err != nil {
		return err
	}
	saved, err := loadSession(c.base())
	if err != nil {
		return err
	}
	if saved == nil {
		return t.answer(c.JSON, struct{}{}, func(w io.Writer) { _, _ = fmt.Fprintf(w, "You aren't signed in at %s.\n", c.base()) })
	}
	// One that has ended, or can't be told of it, is forgotten all the same.
	ended := control.NewClient(c.base(), saved.Secret, c.Env).SignOut(ctx)
	if err := forgetSession(c.base()); err != nil {
		return err
	}
	return t.answer(c.JSON, struct {
		Login string `json:"login"`
	}{saved.Login}, func(w io.Writer) {
		if ended != nil {
			_, _ = fmt.Fprintf(w, "The session of %s is forgotten here. There it may go on until %s: %v\n", saved.Login, instant(saved.Expires), ended)
			return
		}
		_, _ = fmt.Fprintf(w, "%s is signed out at %s.\n", saved.Login, c.base())
	})
}
