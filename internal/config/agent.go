package config

import (
	"time"

	"github.com/hashicorp/hcl/v2"

	"rehost/protocol"
)

// Agent is the content of agent.hcl.
type Agent struct {
	Server    string // the name under which the host is known
	Bus       BusClient
	TokenFile string // one-time enrolment token; needed until the identity is in StateDir
	StateDir  string
	RunDir    string
	PinDir    string   // in a bpffs
	Disks     []string // whole disks, such as /dev/sda
	Tracker   string   // how writes are seen: auto, btf, classic, scan
	Hooks     Hooks
	Window    int64  // bytes that may be sent but not durable
	FreeSpace string // "skip": what no filesystem uses when the sync begins is left out; "copy": it is sent
	CPUs      int    // cores that the agent may keep busy; 0: half of the host's, rounded up
	Freeze    Freeze
	Verify    Verify
	Log       Log
	Debug     Debug
}

// BusClient says how to reach a bus.
type BusClient struct {
	Servers []string // URLs, such as tls://bus.example.com:4222
	CAFile  string   // PEM of the authority that signed the bus's certificate
}

// Hooks are programs of the host's owner, each as an argument vector; empty: none.
type Hooks struct {
	Fence     []string // stops the writers before a cutover's last point
	Unfence   []string // takes a fence back
	PreFreeze []string // before each freeze
	PostThaw  []string // after each thaw
	Timeout   time.Duration
}

// Freeze bounds how long the host's filesystems may stand still for a point.
type Freeze struct {
	Budget time.Duration // wanted at most; a point that needs longer is tried again
	Cap    time.Duration // thawed at this age, whatever happens
	Memory int64         // bytes that may be read into memory while frozen
}

// Verify says how the replica is compared with the disks in the background.
type Verify struct {
	Every     time.Duration // from the end of a pass to the next one; 0: only on request
	Bandwidth int64         // bytes of disk per second
}

// Debug is for tests only.
type Debug struct {
	FrozenHook []string // runs while the filesystems are frozen, so a test can hash the disk at that moment
}

// DefaultAgent returns an agent's defaults.
func DefaultAgent() Agent {
	return Agent{
		TokenFile: "/etc/rehost/token",
		StateDir:  "/var/lib/rehost",
		RunDir:    "/run/rehost",
		PinDir:    "/sys/fs/bpf/rehost",
		Disks:     []string{},
		Tracker:   "auto",
		Hooks:     Hooks{Timeout: 30 * time.Second},
		Window:    128 << 20,
		Freeze:    Freeze{Budget: 250 * time.Millisecond, Cap: maxFreeze, Memory: 256 << 20},
		FreeSpace: "skip",
		Verify:    Verify{Every: 24 * time.Hour, Bandwidth: 32 << 20},
		Log:       DefaultLog(),
	}
}

type agentFile struct {
	Server    *hcl.Attribute  `hcl:"server"`
	Bus       busClientBlock  `hcl:"bus,block"`
	TokenFile *hcl.Attribute  `hcl:"token_file,optional"`
	StateDir  *hcl.Attribute  `hcl:"state_dir,optional"`
	RunDir    *hcl.Attribute  `hcl:"run_dir,optional"`
	PinDir    *hcl.Attribute  `hcl:"pin_dir,optional"`
	Disks     *hcl.Attribute  `hcl:"disks"`
	Tracker   *hcl.Attribute  `hcl:"tracker,optional"`
	Hooks     *hooksBlock     `hcl:"hooks,block"`
	Window    *hcl.Attribute  `hcl:"window,optional"`
	FreeSpace *hcl.Attribute  `hcl:"free_space,optional"`
	CPUs      *hcl.Attribute  `hcl:"cpus,optional"`
	Freeze    *freezeBlock    `hcl:"freeze,block"`
	Verify    *verifyBlock    `hcl:"verify,block"`
	Log       *logBlock       `hcl:"log,block"`
	Debug     *agentDebugFile `hcl:"debug,block"`
}

type busClientBlock struct {
	At      hcl.Range      `hcl:",def_range"`
	Servers *hcl.Attribute `hcl:"servers"`
	CAFile  *hcl.Attribute `hcl:"ca_file"`
}

type hooksBlock struct {
	Fence     *hcl.Attribute `hcl:"fence,optional"`
	Unfence   *hcl.Attribute `hcl:"unfence,optional"`
	PreFreeze *hcl.Attribute `hcl:"pre_freeze,optional"`
	PostThaw  *hcl.Attribute `hcl:"post_thaw,optional"`
	Timeout   *hcl.Attribute `hcl:"timeout,optional"`
}

type freezeBlock struct {
	Budget *hcl.Attribute `hcl:"budget,optional"`
	Cap    *hcl.Attribute `hcl:"cap,optional"`
	Memory *hcl.Attribute `hcl:"memory,optional"`
}

type verifyBlock struct {
	Every     *hcl.Attribute `hcl:"every,optional"`
	Bandwidth *hcl.Attribute `hcl:"bandwidth,optional"`
}

type agentDebugFile struct {
	FrozenHook *hcl.Attribute `hcl:"frozen_hook,optional"`
}

// LoadAgent reads agent.hcl. What is wrong with it comes back as [*Errors], all of it.
func LoadAgent(path string) (Agent, error) {
	a := DefaultAgent()
	var raw agentFile
	err := decodeFile(path, &raw, func(r *reader) { raw.read(r, &a) })
	if err != nil {
		return Agent{}, err
	}
	return a, nil
}

func (f *agentFile) read(r *reader, a *Agent) {
	r.need(f.Server, r.whole, "server", `"web-1"`)
	r.need(f.Disks, r.whole, "disks", `["/dev/sda"]`)
	r.need(f.Bus.Servers, f.Bus.At, "servers", `["tls://bus.example.com:4222"]`)
	r.need(f.Bus.CAFile, f.Bus.At, "ca_file", `"/etc/rehost/ca.pem"`)
	if r.text(f.Server, &a.Server) && protocol.CheckName(a.Server) != nil {
		r.name(a.Server, f.Server.Expr.Range())
	}
	r.servers(f.Bus.Servers, &a.Bus.Servers)
	r.path(f.Bus.CAFile, &a.Bus.CAFile)
	r.path(f.TokenFile, &a.TokenFile)
	r.path(f.StateDir, &a.StateDir)
	r.path(f.RunDir, &a.RunDir)
	r.path(f.PinDir, &a.PinDir)
	r.disks(f.Disks, &a.Disks)
	if f.Disks != nil && len(a.Disks) == 0 && !r.diags.HasErrors() {
		r.fail(f.Disks.Expr.Range(), "No disks", "An agent replicates at least one disk. Write for example disks = [%q].", "/dev/sda")
	}
	r.size(f.Window, &a.Window, minWindow, maxWindow)
	r.oneOf(f.Tracker, &a.Tracker, "auto", "btf", "classic", "scan")
	r.oneOf(f.FreeSpace, &a.FreeSpace, "skip", "copy")
	r.integer(f.CPUs, &a.CPUs, 0, 1024)
	if v := f.Verify; v != nil {
		r.duration(v.Every, &a.Verify.Every, 0, 90*24*time.Hour)
		r.rate(v.Bandwidth, &a.Verify.Bandwidth)
	}
	if h := f.Hooks; h != nil {
		r.hook(h.Fence, &a.Hooks.Fence)
		r.hook(h.Unfence, &a.Hooks.Unfence)
		r.hook(h.PreFreeze, &a.Hooks.PreFreeze)
		r.hook(h.PostThaw, &a.Hooks.PostThaw)
		r.duration(h.Timeout, &a.Hooks.Timeout, time.Second, time.Hour)
	}
	if z := f.Freeze; z != nil {
		r.duration(z.Budget, &a.Freeze.Budget, minFreeze, maxFreeze)
		r.duration(z.Cap, &a.Freeze.Cap, minFreeze, maxFreeze)
		r.size(z.Memory, &a.Freeze.Memory, minWindow, 4<<30)
		if a.Freeze.Cap < a.Freeze.Budget {
			at := z.Budget
			if z.Cap != nil {
				at = z.Cap
			}
			r.fail(at.Expr.Range(), "Cap below the budget", "A cap of %s thaws before the budget of %s is used. Write cap = %q or more.",
				FormatDuration(a.Freeze.Cap), FormatDuration(a.Freeze.Budget), FormatDuration(a.Freeze.Budget))
		}
	}
	r.log(f.Log, &a.Log)
	if f.Debug != nil {
		r.hook(f.Debug.FrozenHook, &a.Debug.FrozenHook)
	}
}

// hook reads a program with its arguments. It is never given to a shell, so its path is absolute.
func (r *reader) hook(a *hcl.Attribute, to *[]string) {
	var got []string
	if !r.texts(a, &got) {
		return
	}
	if len(got) == 0 || len(got[0]) == 0 || got[0][0] != '/' {
		r.fail(a.Expr.Range(), "Not a program", "%s is a program with its arguments, run without a shell. Write for example %s = [%q, %q, %q].",
			a.Name, a.Name, "/usr/bin/systemctl", "stop", "apache2")
		return
	}
	*to = got
}
