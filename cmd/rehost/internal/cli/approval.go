package cli

import (
	"github.com/spf13/cobra"

	"rehost/internal/hint"
	"rehost/protocol"
)

func newWaveApprove(env Env, c *client) *cobra.Command {
	var output string
	var req protocol.ApproveRequest
	cmd := &cobra.Command{
		Use: "approve WAVE --role ROLE --reason TEXT", Short: "Approve a wave as it is configured now, or withdraw that", Args: one("WAVE"),
		Long: "Say, in a role that you have, that a wave may be cut over as it is configured now. When the wave, its applications, its servers, their launch\n" +
			"blocks or their checks are changed, the approval is void. Look at what you approve first: rehost wave plan WAVE. A cutover that has begun goes on\n" +
			"when an approval is withdrawn; it is ended with rehost job cancel. Roles are given out on the controller's machine: rehost admin operator.",
		Example: "  rehost wave approve first --role change-manager --reason \"CHG-4711\"\n  rehost wave approve first --role change-manager --withdraw --reason \"the database team is ill\"",
	}
	cmd.Flags().StringVar(&req.Role, "role", "", "the `role` in which you approve")
	cmd.Flags().BoolVar(&req.Withdraw, "withdraw", false, "take your approval back")
	outputFlag(cmd, &output)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		if req.Wave = args[0]; req.Role == "" || c.reason == "" {
			return usage(hint.New("an approval needs a role and a reason", "give --role and --reason; see "+cmd.CommandPath()+" --help"))
		}
		a, err := ask[protocol.ApproveRequest, protocol.Approval](cmd.Context(), c, protocol.VerbApprove, req)
		if err != nil {
			return err
		}
		if output == "json" {
			return writeJSON(env.Stdout, a)
		}
		var p printer
		if req.Withdraw {
			p.line("withdrawn: the approval of wave %s by %s as %s", a.Wave, a.Operator, a.Role)
		} else {
			p.line("%s approves wave %s as %s: %s as configured now", a.Operator, a.Wave, a.Role, number(len(a.Of), "block"))
		}
		return p.flush(env.Stdout)
	}
	return cmd
}

func newWaveApprovals(env Env, c *client) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "approvals WAVE", Short: "Show who approved a wave, what counts and what is missing", Args: one("WAVE"),
		Long:    "Show the approvals of a wave, with the reasons why some do not count, and what its gates ask for, as they are for you: with four eyes, who starts\nthe cutover does not count.",
		Example: "  rehost wave approvals first\n  rehost wave approvals first -o json",
	}
	outputFlag(cmd, &output, formatCSV)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		all, err := ask[protocol.ApprovalsRequest, protocol.Approvals](cmd.Context(), c, protocol.VerbApprovals, protocol.ApprovalsRequest{Wave: args[0]})
		if err != nil {
			return err
		}
		return listing(env, output, all, approvalColumns(), all.Approvals, func(p *printer) { approvalTable(p, env, all) })
	}
	return cmd
}

func approvalTable(p *printer, env Env, all protocol.Approvals) {
	if len(all.Gates) == 0 {
		p.line("wave %s asks for no approval", all.Wave)
	}
	for _, g := range all.Gates {
		gateLines(p, g)
	}
	if len(all.Approvals) == 0 {
		return
	}
	p.line("")
	tabulate(p, env, approvalColumns(), all.Approvals)
	for _, a := range all.Approvals {
		if a.Void != "" {
			p.line("%s as %s does not count: %s", a.Operator, a.Role, oneLine(a.Void))
		}
	}
}

// gateLines tell of one gate.
func gateLines(p *printer, g protocol.Gate) {
	if g.Open {
		p.line("gate %s is open: %s", g.Name, g.Want)
		return
	}
	p.line("gate %s is CLOSED: %s", g.Name, oneLine(g.Why))
	p.line("  hint: %s", oneLine(g.Hint))
}

func approvalColumns() []column[protocol.Approval] {
	type approval = protocol.Approval
	return []column[approval]{
		{head: "ROLE", text: func(a approval) string { return a.Role }},
		{head: "OPERATOR", text: func(a approval) string { return a.Operator }},
		{head: "COUNTS", text: func(a approval) string {
			if a.Void != "" {
				return "no"
			}
			return "yes"
		}},
		{head: "GIVEN", text: func(a approval) string { return a.At.Local().Format("2006-01-02 15:04") }, raw: func(a approval) string { return instant(a.At) }},
		{head: "REASON", wide: true, text: func(a approval) string { return oneLine(a.Reason) }},
		{head: "VOID", raw: func(a approval) string { return oneLine(a.Void) }},
	}
}
