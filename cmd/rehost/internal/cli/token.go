package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/internal/progress"
	"rehost/protocol"
)

// tokenOptions say where the files of a new agent go and what they say.
type tokenOptions struct {
	out     string
	install string
	disks   []string
	ttl     time.Duration
}

func newServerToken(env Env, c *client) *cobra.Command {
	var o tokenOptions
	cmd := &cobra.Command{
		Use: "token SERVER", Short: "Make a one-time token with which a server's agent enrols",
		Long: "Make a one-time token. With --out, write it (mode 0600) together with the bus's CA and, with --disk, an agent.hcl that is ready to use;\n" +
			"without, print the token alone. A token is good for one enrolment and at most one hour.",
		Example: "  rehost server token web-1 --out enrol/web-1 --disk /dev/sda --install-dir /etc/rehost\n" +
			"  rehost server token web-1 | ssh web-1 'umask 077; cat > /etc/rehost/token'",
		Args: one("SERVER"),
	}
	cmd.Flags().StringVar(&o.out, "out", "", "`folder` to write token, ca.pem and agent.hcl to")
	cmd.Flags().StringVar(&o.install, "install-dir", "", "`folder` on the server where these files will be (default: that of --out)")
	cmd.Flags().StringSliceVar(&o.disks, "disk", nil, "`disk` of the server to replicate; may be given several times")
	cmd.Flags().DurationVar(&o.ttl, "ttl", time.Hour, "how long the token is good, at most 1h")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		if err := o.check(args[0]); err != nil {
			return usage(err)
		}
		reply, err := ask[protocol.TokenRequest, protocol.TokenReply](cmd.Context(), c, protocol.VerbToken,
			protocol.TokenRequest{Role: protocol.RoleAgent, Name: args[0], TTL: o.ttl})
		if err != nil {
			return err
		}
		var p printer
		if o.out == "" {
			p.line("%s", reply.Token)
			return p.flush(env.Stdout)
		}
		if err := o.write(args[0], reply); err != nil {
			return err
		}
		good := progress.Short(time.Until(reply.Expires).Round(time.Second))
		if len(o.disks) == 0 {
			p.line("wrote token and ca.pem to %s; the token is good for %s", o.out, good)
			p.line("with --disk /dev/sda (lsblk on the server shows its disks) there would be an agent.hcl too; configs/agent.hcl is an example")
			return p.flush(env.Stdout)
		}
		p.line("wrote token, ca.pem and agent.hcl to %s; the token is good for %s", o.out, good)
		p.line("next, on %s: rehost-agent check --config %s && rehost-agent run --config %s", args[0],
			filepath.Join(o.install, "agent.hcl"), filepath.Join(o.install, "agent.hcl"))
		return p.flush(env.Stdout)
	}
	return cmd
}

func (o *tokenOptions) check(server string) error {
	switch err := protocol.CheckName(server); {
	case err != nil:
		return hint.Wrap(err, "use the name of the server block")
	case o.ttl <= 0 || o.ttl > time.Hour:
		return hint.New(fmt.Sprintf("a token cannot be good for %s", o.ttl), "use --ttl with at most 1h")
	case o.out == "":
		return nil
	}
	for _, d := range o.disks {
		if !strings.HasPrefix(d, "/dev/") || strings.ContainsAny(d, "\"\\ ${%\n") {
			return hint.New(fmt.Sprintf("%q is not a device path", d), "name each whole disk, such as --disk /dev/sda")
		}
	}
	if o.install == "" {
		abs, err := filepath.Abs(o.out)
		if err != nil {
			return fmt.Errorf("find %s: %w", o.out, err)
		}
		o.install = abs
	}
	return nil
}

func (o *tokenOptions) write(server string, reply protocol.TokenReply) error {
	if err := os.MkdirAll(o.out, 0o700); err != nil {
		return hint.Wrap(fmt.Errorf("make folder for the token: %w", err), "name a folder you may write to with --out")
	}
	files := map[string]string{"token": reply.Token + "\n", "ca.pem": reply.Bus.CA}
	if len(o.disks) > 0 {
		files["agent.hcl"] = agentFile(server, o.install, o.disks, reply.Bus.Servers)
	}
	for name, content := range files {
		if err := writePrivate(filepath.Join(o.out, name), []byte(content)); err != nil {
			return err
		}
	}
	return nil
}

// agentFile is the text of agent.hcl for one server.
func agentFile(server, dir string, disks, servers []string) string {
	list := func(items []string) string {
		quoted := make([]string, len(items))
		for i, s := range items {
			quoted[i] = fmt.Sprintf("%q", s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	}
	return fmt.Sprintf(`# Written by: rehost server token %s. All settings: configs/agent.hcl.
server     = %q
disks      = %s
token_file = %q

bus {
  servers = %s
  ca_file = %q
}
`, server, server, list(disks), filepath.Join(dir, "token"), list(servers), filepath.Join(dir, "ca.pem"))
}
