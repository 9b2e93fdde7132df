package cli

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/hint"
	"rehost/protocol"
)

// defaultDataDir is where the packaged controller keeps its state.
const defaultDataDir = "/var/lib/rehost-controller"

// operatorOptions say what a person gets.
type operatorOptions struct {
	dataDir, out string
	roles        []string
	noRoles      bool
}

func newOperator(env Env, c *client) *cobra.Command {
	var o operatorOptions
	cmd := &cobra.Command{
		Use: "operator NAME", Short: "Give a person an identity of their own, or roles in which to approve waves", Args: one("NAME"),
		Long: "Write a context file (mode 0600) with which a person commands the controller under a name of their own, which the audit log then tells.\n" +
			"With --role, say in which roles that person may approve waves: those that are given replace the ones before, and the controller must run.\n" +
			"Run it on the controller's machine, as who may read its data folder: the keys that sign identities do not leave it.",
		Example: "  rehost admin operator ada --out ada.json\n  rehost admin operator ada --role change-manager --role security\n  rehost admin operator ada --no-role\n" +
			"  rehost --context ada.json status",
	}
	cmd.Flags().StringVar(&o.dataDir, "data-dir", defaultDataDir, "the controller's data `folder`")
	cmd.Flags().StringVar(&o.out, "out", "", "`file` to write the context to")
	cmd.Flags().StringSliceVar(&o.roles, "role", nil, "`role` in which the person may approve waves; may be given several times")
	cmd.Flags().BoolVar(&o.noRoles, "no-role", false, "take all roles away")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := o.check(args[0]); err != nil {
			return usage(err)
		}
		authority, err := broker.OpenAuthority(filepath.Join(o.dataDir, "bus"))
		if err != nil {
			return err
		}
		here, err := bus.LoadContext(filepath.Join(o.dataDir, "operator.json"))
		if err != nil {
			if here, err = c.context(); err != nil {
				return err
			}
		}
		var p printer
		if len(o.roles) > 0 || o.noRoles {
			given, err := o.grant(cmd.Context(), c, authority, here.Bus, args[0])
			if err != nil {
				return err
			}
			p.line("%s may approve waves as: %s", given.Name, orDash(strings.Join(given.Roles, ", ")))
		}
		if o.out != "" {
			id, err := authority.Identity(protocol.RoleOperator, args[0])
			if err == nil {
				err = bus.SaveContext(o.out, bus.Context{Bus: here.Bus, Identity: id})
			}
			if err != nil {
				return err
			}
			p.line("wrote %s: whoever has it commands the controller as %s, for a year", o.out, args[0])
		}
		return p.flush(env.Stdout)
	}
	return cmd
}

func (o *operatorOptions) check(name string) error {
	for _, n := range append([]string{name}, o.roles...) {
		if err := protocol.CheckName(n); err != nil {
			return hint.Wrap(err, "choose such a name")
		}
	}
	switch {
	case o.noRoles && len(o.roles) > 0:
		return hint.New("--role gives roles, and --no-role takes all away", "leave one of them out")
	case o.out == "" && len(o.roles) == 0 && !o.noRoles:
		return hint.New("no file to write the context to, and no role to give", "name a file with --out, or a role with --role")
	}
	return nil
}

// grant asks the controller to record the roles, as somebody whom no operator can be.
func (o *operatorOptions) grant(ctx context.Context, c *client, authority *broker.Authority, at protocol.Bus, name string) (protocol.Operator, error) {
	by := whoami()
	id, err := authority.Identity(protocol.RoleController, by)
	if err != nil {
		return protocol.Operator{}, err
	}
	limited, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	const next = "roles are records of the controller: it must run; systemctl status rehost-controller"
	nc, err := bus.Connect(limited, bus.Context{Bus: at, Identity: id}, hclog.NewNullLogger())
	if err != nil {
		return protocol.Operator{}, hint.Wrap(&lostError{fmt.Errorf("give %s the roles: %w", name, err)}, next)
	}
	defer nc.Close()
	given, err := bus.Request[protocol.GrantRequest, protocol.Operator](bus.WithReason(limited, c.reason), nc, protocol.GrantSubject(by), protocol.GrantRequest{Name: name, Roles: o.roles})
	if err != nil && hint.Of(err) == "" {
		err = hint.Wrap(err, next)
	}
	return given, err
}

// whoami names the person at this machine, for the audit log.
func whoami() string {
	names := []string{os.Getenv("SUDO_USER")}
	if u, err := user.Current(); err == nil {
		names = append(names, u.Username)
	}
	for _, n := range names {
		if protocol.CheckName(n) == nil {
			return n
		}
	}
	return "unknown"
}
