package main

import (
	"context"
	"fmt"
	"os"
	"regexp"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

var numericUser = regexp.MustCompile(`^[1-9]\d*:[1-9]\d*$`)

// checkDockerfile parses and lints a Dockerfile, whose last stage must hold nothing but ours and run as a user with a
// number: orchestrators can't tell whether a name is root.
func checkDockerfile(_ context.Context, name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	parsed, err := parser.Parse(f)
	if err != nil {
		return "", err
	}
	var w wrong
	for _, warning := range parsed.Warnings {
		w.add("%s", warning.Short)
	}
	lint := linter.New(&linter.Config{Warn: func(rule, _, _, message string, at []parser.Range) { w.add("%s: %s %v", rule, message, at) }})
	stages, _, err := instructions.Parse(parsed.AST, lint)
	if err != nil {
		return "", err
	}
	last := stages[len(stages)-1]
	if last.BaseName != "scratch" {
		w.add("the image is made from %s rather than from scratch", last.BaseName)
	}
	user := ""
	for _, c := range last.Commands {
		switch c := c.(type) {
		case *instructions.UserCommand:
			user = c.User
		case *instructions.RunCommand:
			w.add("there is no shell that could run %s", c)
		}
	}
	if !numericUser.MatchString(user) {
		w.add("user %q is not the number of a user and a group other than root's", user)
	}
	return fmt.Sprintf("%d stages, user %s", len(stages), user), w.err()
}

// checkCompose loads the file as `docker compose config` does.
func checkCompose(ctx context.Context, name string) (string, error) {
	options, err := cli.NewProjectOptions([]string{name})
	if err != nil {
		return "", err
	}
	project, err := options.LoadProject(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d services", len(project.Services)), nil
}
