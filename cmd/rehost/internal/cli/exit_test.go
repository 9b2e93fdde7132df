package cli

import "os"

func args() []string { return os.Args[1:] }

func exit(code int) { os.Exit(code) }
