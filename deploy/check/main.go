package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// usage: check FOLDER, that of deploy.
func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: check FOLDER")
		os.Exit(2)
	}
	folder, failed := os.Args[1], false
	for _, check := range []struct {
		what string
		run  func(context.Context, string) (string, error)
	}{
		{"Dockerfile", checkDockerfile}, {"compose.yaml", checkCompose}, {"kustomization.yaml", checkKubernetes},
	} {
		found, err := check.run(context.Background(), filepath.Join(folder, check.what))
		if err != nil {
			failed = true
			fmt.Fprintf(os.Stderr, "%s: %v\n", check.what, err)
			continue
		}
		fmt.Printf("%s: %s\n", check.what, found)
	}
	if failed {
		os.Exit(1)
	}
}

// wrong collects what is wrong.
type wrong []error

func (w *wrong) add(format string, args ...any) { *w = append(*w, fmt.Errorf(format, args...)) }

func (w wrong) err() error { return errors.Join(w...) }
