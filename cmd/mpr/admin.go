package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"mpr/company"
	"mpr/config"
	"mpr/control"
)

// admin are the flags of commands that call the admin API.
type admin struct {
	Env       string `default:"production" placeholder:"NAME" env:"MPR_ENV" help:"The environment (default production)."`
	Data      string `default:"mpr-data" placeholder:"DIR" env:"MPR_DATA" help:"Data folder of the running mpr dev or mpr control (default mpr-data)."`
	Admin     string `placeholder:"URL" env:"MPR_ADMIN" help:"Base URL of the admin API, where it isn't found by its data folder."`
	TokenFile string `placeholder:"FILE" env:"MPR_TOKEN_FILE" help:"File with the admin API's token. Wins over being signed in."`
	JSON      bool   `name:"json" help:"Print one line of JSON."`

	// found says that the address comes from the data folder, foundToken which file there has the
	// token.
	found      bool
	foundToken string
}

// author are the flags of commands whose effects are recorded with who asked for them.
type author struct {
	admin
	By string `placeholder:"NAME" env:"MPR_OPERATOR" help:"Who asks for it, for the record (default: you, on this machine). Who has signed in is always recorded as such."`
}

func (o *author) who() string {
	if o.By != "" {
		return o.By
	}
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}

// byFlag is what to add to a suggested command to ask for it in the same name.
func (o *author) byFlag() string {
	if o.By == "" {
		return ""
	}
	return fmt.Sprintf(" --by %q", o.By)
}

// runningFile is what a running control role leaves in its data folder, to be found by.
const runningFile = "running.json"

// tokenVariable may hold the admin API's token itself. There is no such flag: every user of a machine
// can see arguments.
const tokenVariable = "MPR_ADMIN_TOKEN"

// client finds the admin API, and what to show there: a token that was given, the session of who has
// signed in, or the token in the data folder.
func (a *admin) client() (*control.Client, error) {
	if err := a.locate(); err != nil {
		return nil, err
	}
	// What was given wins; who has signed in acts as themselves, wherever the token lies.
	if token := strings.TrimSpace(os.Getenv(tokenVariable)); token != "" && a.TokenFile == "" {
		return control.NewClient(a.base(), token, a.Env), nil
	}
	if a.TokenFile == "" {
		saved, err := loadSession(a.base())
		if err != nil {
			return nil, err
		}
		if saved != nil {
			return control.NewClient(a.base(), saved.Secret, a.Env), nil
		}
		a.TokenFile = a.foundToken
	}
	if a.TokenFile == "" {
		return nil, wrongUsage("the admin API at %s needs to know who you are: sign in with `mpr signin --admin %s`, or add --token-file FILE", a.Admin, a.Admin)
	}
	token, err := os.ReadFile(a.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the admin API's token: %w", err)
	}
	if strings.TrimSpace(string(token)) == "" {
		return nil, fmt.Errorf("the token file %s is empty", a.TokenFile)
	}
	return control.NewClient(a.base(), strings.TrimSpace(string(token)), a.Env), nil
}

// locate finds out where the admin API is.
func (a *admin) locate() error {
	if a.Admin == "" {
		if err := a.find(); err != nil {
			return err
		}
	}
	if parseBaseURL(a.Admin) == nil {
		return wrongUsage("--admin %s: expected a base URL such as http://127.0.0.1:4090", a.Admin)
	}
	return nil
}

// base is the base URL of the admin API, once it is known.
func (a *admin) base() string { return strings.TrimSuffix(a.Admin, "/") }

// parseBaseURL reads the base URL of a service; nil where it is none.
func parseBaseURL(text string) *url.URL {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return nil
	}
	return u
}

// find reads where the admin API of a data folder is, and its token.
func (a *admin) find() error {
	var running struct {
		Admin struct {
			URL       string `json:"url"`
			TokenFile string `json:"token_file"`
		} `json:"admin"`
	}
	path := filepath.Join(a.Data, runningFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no mpr runs with the data folder %s: start `mpr dev`, name its folder with --data, or name the admin API with --admin URL --token-file FILE", a.Data)
	}
	if err != nil {
		return fmt.Errorf("find the admin API: %w", err)
	}
	if err := json.Unmarshal(data, &running); err != nil {
		return fmt.Errorf("find the admin API: %s: %w", path, err)
	}
	a.Admin, a.found = running.Admin.URL, true
	a.foundToken = running.Admin.TokenFile
	if a.foundToken != "" && !filepath.IsAbs(a.foundToken) {
		a.foundToken = filepath.Join(a.Data, a.foundToken)
	}
	return nil
}

// environmentFlag is what to add to a suggested command to stay in the environment.
func (a *admin) environmentFlag() string {
	flag := ""
	if a.Env != "production" {
		flag += fmt.Sprintf(" --env %q", a.Env)
	}
	if a.Admin != "" && !a.found {
		flag += fmt.Sprintf(" --admin %q", a.Admin)
		if a.TokenFile != "" {
			flag += fmt.Sprintf(" --token-file %q", a.TokenFile)
		}
		return flag
	}
	if a.Data != config.DefaultData {
		flag += fmt.Sprintf(" --data %q", a.Data)
	}
	return flag
}

func joinIDs(ids []company.ID) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	return strings.Join(texts, " ")
}

// pending tells that the global index hasn't caught up yet.
func pending(listed bool) string {
	if listed {
		return ""
	}
	return "List Companies will show it in a moment."
}
