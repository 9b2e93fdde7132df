package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"rehost/protocol"
)

// completion finds what a shell offers for the next word; args are those before it.
type completion func(ctx context.Context, args []string) []string

// completeNames lets the shell complete what the usage of each command names: servers, waves, applications, points and jobs,
// as they are in the controller now. Without one, nothing is offered.
func completeNames(c *client, cmd *cobra.Command) {
	words := strings.Fields(cmd.Use)[1:]
	if len(words) > 0 && cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			word := words[min(len(args), len(words)-1)]
			if len(args) >= len(words) && !strings.Contains(word, "...") {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			switch word = strings.Trim(word, "[.]"); word {
			case "DIR":
				return nil, cobra.ShellCompDirectiveFilterDirs
			case "FILE", "DIR|FILE":
				return nil, cobra.ShellCompDirectiveDefault
			}
			return offered(cmd.Context(), c, c.names(word), args)
		}
	}
	for flag, word := range map[string]string{"server": "SERVER", "app": "APPLICATION", "application": "APPLICATION", "wave": "WAVE"} {
		if cmd.Flags().Lookup(flag) != nil {
			completeFlag(cmd, c, flag, c.names(word))
		}
	}
	for _, sub := range cmd.Commands() {
		completeNames(c, sub)
	}
}

// completeFlag lets the shell complete a flag's value.
func completeFlag(cmd *cobra.Command, c *client, flag string, find completion) {
	err := cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return offered(cmd.Context(), c, find, args)
	})
	if err != nil {
		panic("internal error: " + err.Error()) // the flag is not there, or twice
	}
}

func offered(ctx context.Context, c *client, find completion, args []string) ([]string, cobra.ShellCompDirective) {
	defer c.close()
	return find(ctx, args), cobra.ShellCompDirectiveNoFileComp
}

// names is the completion for a word of a usage.
func (c *client) names(word string) completion {
	return func(ctx context.Context, args []string) (names []string) {
		if word == "POINT" && len(args) > 0 {
			points, _ := ask[protocol.PointsRequest, []protocol.Point](ctx, c, protocol.VerbPoints, protocol.PointsRequest{Server: args[0]})
			for _, pt := range points {
				names = append(names, pt.ID)
			}
			return names
		}
		status, err := ask[protocol.StatusRequest, protocol.Status](ctx, c, protocol.VerbStatus, protocol.StatusRequest{})
		switch {
		case err != nil: // a shell has no place for errors
		case word == "SERVER":
			for _, s := range status.Servers {
				names = append(names, s.Record.Name)
			}
		case word == "WAVE":
			for _, w := range status.Waves {
				names = append(names, w.Name)
			}
		case word == "APPLICATION":
			names = status.Applications
		case word == "ID":
			for _, j := range status.Jobs {
				names = append(names, j.ID)
			}
		}
		return names
	}
}

// targets completes what a plan may be narrowed to.
func (c *client) targets(ctx context.Context, args []string) (names []string) {
	for _, kind := range []string{"server", "application", "wave"} {
		for _, name := range c.names(strings.ToUpper(kind))(ctx, args) {
			names = append(names, kind+"."+name)
		}
	}
	return names
}
