package protocol

import (
	"slices"
	"time"
)

// Kinds of checks.
const (
	CheckHTTP     = "http"
	CheckTCP      = "tcp"
	CheckConsole  = "console"
	CheckInstance = "instance" // the cloud's own checks
	CheckDNS      = "dns"
	CheckSSH      = "ssh" // a command; so do those that follow work by SSH
	CheckUnit     = "unit"
	CheckProcess  = "process"
	CheckMounts   = "mounts"
)

// CheckKinds are all kinds.
var CheckKinds = []string{CheckHTTP, CheckTCP, CheckConsole, CheckInstance, CheckDNS, CheckSSH, CheckUnit, CheckProcess, CheckMounts}

// CheckSettings is a check block: what a launched instance must show.
type CheckSettings struct {
	Name     string            `json:"name"`
	Kind     string            `json:"kind"` // of [CheckKinds]
	Port     int               `json:"port"`
	Path     string            `json:"path"`
	Status   int               `json:"status"`
	Headers  map[string]string `json:"headers,omitempty"`  // of the HTTP answer: a text that is in each
	Contains string            `json:"contains"`           // text in the HTTP body, on the console, or of the command
	Lookup   string            `json:"lookup,omitempty"`   // a name
	Resolver string            `json:"resolver,omitempty"` // host:port; empty: the target itself
	Answer   string            `json:"answer,omitempty"`   // an address, or target for its own; empty: any
	Command  []string          `json:"command,omitempty"`  // with its arguments
	ExitCode int               `json:"exit_code,omitempty"`
	Unit     string            `json:"unit,omitempty"`       // of systemd
	Process  string            `json:"process,omitempty"`    // its name, as the kernel has it
	Free     int64             `json:"free_bytes,omitempty"` // at least, on each filesystem of fstab
	Timeout  time.Duration     `json:"timeout_ns"`
}

// BySSH says that the check needs a shell on the instance.
func (c CheckSettings) BySSH() bool {
	return slices.Contains([]string{CheckSSH, CheckUnit, CheckProcess, CheckMounts}, c.Kind)
}

// SSHSettings say how to get a shell on what is launched.
type SSHSettings struct {
	User    string `json:"user"`
	KeyFile string `json:"key_file"` // private key: a file of the controller's machine
	Port    int    `json:"port"`
}
