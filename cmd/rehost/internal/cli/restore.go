package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehost/controller"
)

func newRestore(env Env, c *client) *cobra.Command {
	var cfg controller.RestoreConfig
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Bring a backup of the control plane back, while the controller is stopped", Args: one("FILE"),
		Long: "Bring back what `rehost admin backup` wrote, into the data folder of a controller that is stopped, whole or not at all. The file is verified before anything is touched. Run it\n" +
			"on the controller's machine. Then start the controller: agents and replication servers come back by themselves, every replica is compared with its source,\n" +
			"and jobs that ran are cancelled. docs/operations.md, \"Losing the controller\", says what to look at.\n" +
			"The keys of the bus come from the backup or are in DATA/bus already; enrolment tokens that were handed out before are good no more.",
		Example: "  rehost admin restore rehost-2026-03-01.tar.gz\n  rehost admin restore rehost-2026-03-01.tar.gz --force --new-identities --reason \"a host was broken into\"",
	}
	cmd.Flags().StringVar(&cfg.Dir, "data-dir", defaultDataDir, "the controller's data `folder`")
	cmd.Flags().BoolVar(&cfg.Force, "force", false, "put aside what the folder holds; it is kept beside it")
	cmd.Flags().BoolVar(&cfg.NewIdentities, "new-identities", false, "let nobody in who had an identity: agents, replication servers and operators need new ones")
	cmd.Flags().BoolVar(&cfg.NewKeys, "new-keys", false, "make keys when neither the backup nor the folder has any: nobody knows them, and nothing that was made in the cloud is found by them")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		cfg.File, cfg.Reason = args[0], c.reason
		done, err := controller.Restore(cmd.Context(), cfg)
		if err != nil {
			return err
		}
		return tellRestored(env, cfg, done)
	}
	return cmd
}

// tellRestored says what of the backup does not hold any more, and what to do about it.
func tellRestored(env Env, cfg controller.RestoreConfig, done controller.Restored) error {
	cut := done.Manifest.Cut
	var p printer
	p.line("restored %s: %d records and %d messages of the audit log, as they were at %s", cfg.Dir, cut.Records, cut.Audit, cut.At.Local().Format(time.DateTime))
	if done.Aside != "" {
		p.line("what was there before is in %s", done.Aside)
	}
	p.line("")
	if len(done.Jobs) > 0 {
		p.line("cancelled, as they ran then: jobs %s; see each with: rehost job show ID", strings.Join(done.Jobs, ", "))
	}
	if done.Points > 0 {
		p.line("failed, as they were on their way then: %d points", done.Points)
	}
	if len(done.Moves) > 0 {
		p.line("given up: the moves of %s", strings.Join(done.Moves, ", "))
	}
	switch {
	case cfg.NewIdentities:
		p.line("nobody is let in any more: make tokens (rehost server token), terminate the replication servers' instances, and give operators new contexts (rehost admin operator)")
	case len(done.Revocable) > 0:
		p.line("whom you revoked since then is let in again: revoke them again (rehost server revoke). Agents that enrolled since then are let in and cannot be")
		p.line("revoked; if that must not be, restore once more with --force --new-identities")
	}
	p.line("")
	p.line("Next: start the controller, then")
	p.line("  rehost plan DIR     what was applied since then is not in it")
	p.line("  rehost status       servers whose record is in doubt say why")
	p.line("  rehost sweep        what was made since then and no record explains")
	return p.flush(env.Stdout)
}
