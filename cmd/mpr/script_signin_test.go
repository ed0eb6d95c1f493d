package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/net/html"
)

// signIn runs mpr signin, and is the browser of somebody who signs in at the login service, allows
// it, and is brought back: signin LOGIN PASSWORD [ARGUMENT...]. What the command prints is in the
// file signin.out.
func signIn(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: signin LOGIN PASSWORD [ARGUMENT...]")
	}
	cmd := exec.Command("mpr", append([]string{"signin", "--no-browser", "--wait", readyWithin.String()}, args[2:]...)...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"HOME=" + ts.Getenv("HOME"), "XDG_CONFIG_HOME=" + ts.Getenv("XDG_CONFIG_HOME"), "MPR_DATA=" + ts.Getenv("MPR_DATA"), "GORACE=atexit_sleep_ms=0"}
	var out strings.Builder
	cmd.Stdout = &out
	said, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	page := ""
	var log strings.Builder
	lines := bufio.NewScanner(io.TeeReader(said, &log))
	for page == "" && lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); strings.HasPrefix(line, "http") {
			page = line
		}
	}
	if page != "" {
		err = browse(page, args[0], args[1], neg)
	}
	if err != nil || neg {
		_ = cmd.Process.Kill() // nobody comes back to it
	}
	_, _ = io.Copy(&log, said)
	ended := cmd.Wait()
	if neg {
		if err == nil {
			ts.Fatalf("%s could sign in", args[0])
		}
		return
	}
	if err := errors.Join(err, ended); err != nil || page == "" {
		ts.Fatalf("mpr signin: %v\n%s", err, &log)
	}
	ts.Check(os.WriteFile(ts.MkAbs("signin.out"), []byte(out.String()), 0o600))
}

// mode wants each file that a pattern names to have a mode: mode 600 PATTERN.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode MODE PATTERN")
	}
	found, err := filepath.Glob(ts.MkAbs(args[1]))
	ts.Check(err)
	if len(found) == 0 {
		ts.Fatalf("there is no %s", args[1])
	}
	for _, name := range found {
		info, err := os.Stat(name)
		ts.Check(err)
		if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[0] {
			ts.Fatalf("%s has the mode %s, want %s", name, got, args[0])
		}
	}
}

// browse is a browser with cookies and forms, and somebody at it.
func browse(page, login, password string, deny bool) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	b := &http.Client{Jar: jar, Timeout: 30 * time.Second}
	form, err := open(b.Get(page))
	if err != nil {
		return err
	}
	form.fields.Set("login", login)
	form.fields.Set("password", password)
	if form, err = open(b.PostForm(form.action, form.fields)); err != nil {
		return err
	}
	decision := "allow"
	if deny {
		decision = "deny"
	}
	form.fields.Set("decision", decision)
	if form, err = open(b.PostForm(form.action, form.fields)); err != nil {
		return err
	}
	if form.next == "" {
		return errors.New("the last page leads nowhere")
	}
	_, err = open(b.Get(form.next))
	return err
}

// aPage is what a person sees of a page: a form, and where it leads by itself.
type aPage struct {
	action, next string
	fields       url.Values
}

func open(r *http.Response, err error) (*aPage, error) {
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(r.Body)
		return nil, fmt.Errorf("%s: %s: %s", r.Request.URL, r.Status, text)
	}
	doc, err := html.Parse(r.Body)
	if err != nil {
		return nil, err
	}
	p := &aPage{fields: url.Values{}}
	for n := range doc.Descendants() {
		attributes := map[string]string{}
		for _, a := range n.Attr {
			attributes[a.Key] = a.Val
		}
		switch {
		case n.Data == "form":
			to, err := r.Request.URL.Parse(attributes["action"])
			if err != nil {
				return nil, err
			}
			p.action = to.String()
		case n.Data == "input" && attributes["name"] != "":
			p.fields.Set(attributes["name"], attributes["value"])
		case attributes["id"] == "hand-over":
			p.next = attributes["href"]
		}
	}
	return p, nil
}
