package cli

import "github.com/spf13/cobra"

func newAdmin(env Env, c *client) *cobra.Command {
	cmd := group(&cobra.Command{Use: "admin", Short: "Look after the control plane: the audit log, operators, backups"})
	cmd.AddCommand(newAudit(env, c), newOperator(env, c), newBackup(env, c), newRestore(env, c))
	return cmd
}
