package config

import (
	"regexp"

	"github.com/hashicorp/hcl/v2"
)

// Controller is the content of controller.hcl.
type Controller struct {
	DataDir    string
	Bus        ControllerBus
	Cloud      Cloud
	ReplicaBus []string // the bus's URLs as replication servers see them; empty: as the controller does
	Jobs       Jobs
	Webhooks   []Webhook
	// GateCommands is the folder of the programs that gates may run; empty: none. What is in it, operators may have run with arguments of
	// their own, by the controller's user.
	GateCommands string
	Log          Log
}

// Jobs bounds what all jobs together do.
type Jobs struct {
	Servers int // worked on at once
	Ready   int // of which it is found out at once whether they boot
}

// ControllerBus is the bus inside the controller, or an existing one: exactly one of them.
type ControllerBus struct {
	Embedded *EmbeddedBus
	External *ExternalBus
}

// EmbeddedBus is a bus that the controller runs.
type EmbeddedBus struct {
	Listen string // host:port
}

// ExternalBus is a bus that others run.
type ExternalBus struct {
	BusClient
	IdentityFile string // JWT and seed of the controller
	AuthorityDir string // signing keys with which the controller enrols agents
}

// Cloud is where instances and volumes are: EC2, or an endpoint that speaks its API.
type Cloud struct {
	Endpoint        string // empty: EC2's own for the region
	Region          string
	CredentialsFile string // empty: the SDK's chain (environment, instance role)
	Profile         string
	RoleARN         string // to assume, in the target account; empty: none
	ExternalID      string // that the role's trust policy asks for
}

// DefaultController returns a controller's defaults.
func DefaultController() Controller {
	return Controller{
		DataDir: "/var/lib/rehost-controller",
		Bus:     ControllerBus{Embedded: &EmbeddedBus{Listen: "0.0.0.0:4222"}},
		Jobs:    Jobs{Servers: 20, Ready: 2}, // a conversion takes 2 vCPUs of the 64 or more that a region gives an account
		Log:     DefaultLog(),
	}
}

type controllerFile struct {
	DataDir    *hcl.Attribute      `hcl:"data_dir,optional"`
	Commands   *hcl.Attribute      `hcl:"gate_commands,optional"`
	Bus        *controllerBusBlock `hcl:"bus,block"`
	Cloud      cloudBlock          `hcl:"cloud,block"`
	ReplicaBus *replicaBusBlock    `hcl:"replica_bus,block"`
	Jobs       *jobsBlock          `hcl:"jobs,block"`
	Webhooks   []webhookBlock      `hcl:"webhook,block"`
	Log        *logBlock           `hcl:"log,block"`
}

type controllerBusBlock struct {
	At       hcl.Range      `hcl:",def_range"`
	Embedded *embeddedBlock `hcl:"embedded,block"`
	Servers  *hcl.Attribute `hcl:"servers,optional"`
	CAFile   *hcl.Attribute `hcl:"ca_file,optional"`
	Identity *hcl.Attribute `hcl:"identity_file,optional"`
	Keys     *hcl.Attribute `hcl:"authority_dir,optional"`
}

type embeddedBlock struct {
	Listen *hcl.Attribute `hcl:"listen,optional"`
}

type cloudBlock struct {
	At              hcl.Range      `hcl:",def_range"`
	Endpoint        *hcl.Attribute `hcl:"endpoint,optional"`
	Region          *hcl.Attribute `hcl:"region"`
	CredentialsFile *hcl.Attribute `hcl:"credentials_file,optional"`
	Profile         *hcl.Attribute `hcl:"profile,optional"`
	RoleARN         *hcl.Attribute `hcl:"role_arn,optional"`
	ExternalID      *hcl.Attribute `hcl:"external_id,optional"`
}

type replicaBusBlock struct {
	At      hcl.Range      `hcl:",def_range"`
	Servers *hcl.Attribute `hcl:"servers"`
}

type jobsBlock struct {
	Servers *hcl.Attribute `hcl:"servers,optional"`
	Ready   *hcl.Attribute `hcl:"ready,optional"`
}

// LoadController reads controller.hcl. What is wrong with it comes back as [*Errors], all of it.
func LoadController(path string) (Controller, error) {
	c := DefaultController()
	var raw controllerFile
	err := decodeFile(path, &raw, func(r *reader) { raw.read(r, &c) })
	if err != nil {
		return Controller{}, err
	}
	return c, nil
}

func (f *controllerFile) read(r *reader, c *Controller) {
	r.path(f.DataDir, &c.DataDir)
	r.path(f.Commands, &c.GateCommands)
	if f.Bus != nil {
		f.Bus.read(r, &c.Bus)
	}
	r.need(f.Cloud.Region, f.Cloud.At, "region", `"eu-central-1"`)
	r.text(f.Cloud.Endpoint, &c.Cloud.Endpoint)
	r.text(f.Cloud.Region, &c.Cloud.Region)
	r.path(f.Cloud.CredentialsFile, &c.Cloud.CredentialsFile)
	r.text(f.Cloud.Profile, &c.Cloud.Profile)
	f.Cloud.readRole(r, &c.Cloud)
	if f.ReplicaBus != nil {
		r.need(f.ReplicaBus.Servers, f.ReplicaBus.At, "servers", `["tls://10.0.0.5:4222"]`)
		r.servers(f.ReplicaBus.Servers, &c.ReplicaBus)
	}
	if f.Jobs != nil {
		r.integer(f.Jobs.Servers, &c.Jobs.Servers, 1, 200)
		r.integer(f.Jobs.Ready, &c.Jobs.Ready, 1, 200)
	}
	c.Webhooks = r.webhooks(f.Webhooks)
	r.log(f.Log, &c.Log)
}

// roleARN is the form of a role's name across accounts.
var roleARN = regexp.MustCompile(`^arn:aws[a-z-]*:iam::\d{12}:role/\S+$`)

func (b *cloudBlock) readRole(r *reader, c *Cloud) {
	r.text(b.RoleARN, &c.RoleARN)
	r.text(b.ExternalID, &c.ExternalID)
	switch {
	case c.RoleARN != "" && !roleARN.MatchString(c.RoleARN):
		r.fail(b.RoleARN.Expr.Range(), "Not a role's ARN", "%q names no role. Write for example %q.", c.RoleARN, "arn:aws:iam::123456789012:role/rehost-controller")
	case c.ExternalID != "" && c.RoleARN == "":
		r.fail(b.ExternalID.NameRange, "Attribute without effect", "external_id belongs to a role that is assumed. Write role_arn too, or remove it.")
	}
}

func (b *controllerBusBlock) read(r *reader, to *ControllerBus) {
	if b.Servers == nil {
		for _, a := range []*hcl.Attribute{b.CAFile, b.Identity, b.Keys} {
			if a != nil {
				r.fail(a.NameRange, "Attribute without effect", "%s belongs to an existing bus. Write servers = [...] too, or remove it.", a.Name)
			}
		}
		if b.Embedded != nil {
			r.address(b.Embedded.Listen, &to.Embedded.Listen)
		}
		return
	}
	if b.Embedded != nil {
		r.fail(b.Servers.NameRange, "Two buses", "A bus is either embedded {} or servers = [...]. Remove one of them.")
		return
	}
	to.Embedded, to.External = nil, &ExternalBus{}
	r.servers(b.Servers, &to.External.Servers)
	required := []struct {
		attr *hcl.Attribute
		name string
		path string
		to   *string
	}{
		{b.CAFile, "ca_file", `"/etc/rehost/ca.pem"`, &to.External.CAFile},
		{b.Identity, "identity_file", `"/var/lib/rehost-controller/identity.json"`, &to.External.IdentityFile},
		{b.Keys, "authority_dir", `"/etc/rehost/authority"`, &to.External.AuthorityDir},
	}
	for _, q := range required {
		r.need(q.attr, b.At, q.name, q.path)
		r.path(q.attr, q.to)
	}
}
