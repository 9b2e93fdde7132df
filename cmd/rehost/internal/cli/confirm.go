package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rehost/internal/hint"
)

// consent is what a verb needs whose effect cannot be undone: a word that the operator types, or --yes.
type consent struct{ yes bool }

func (a *consent) flag(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&a.yes, "yes", "y", false, "do not ask")
}

// possible refuses output for programs without --yes: it cannot ask. Verbs call it before they do anything.
func (a consent) possible(output string) error {
	if a.yes || output == formatText {
		return nil
	}
	return usage(hint.New("-o "+output+" cannot ask", "pass --yes as well"))
}

// get asks for the word want, unless --yes was given. There is no use in asking when nobody could do it.
func (a consent) get(ctx context.Context, c *client, question, want string) error {
	if a.yes {
		return nil
	}
	if err := c.reach(ctx, askTimeout); err != nil {
		return err
	}
	return confirm(c.env, question, want)
}

// confirm asks the operator to type want. Anything else, or no terminal to ask at, changes nothing.
func confirm(env Env, question, want string) error {
	if _, err := fmt.Fprintf(env.Stdout, "%s\nType %q to go on: ", question, want); err != nil {
		return fmt.Errorf("ask: %w", err)
	}
	answer, err := bufio.NewReader(env.Stdin).ReadString('\n')
	if strings.TrimSpace(answer) == want {
		return nil
	}
	if err != nil {
		if _, werr := fmt.Fprintln(env.Stdout); werr != nil {
			return fmt.Errorf("ask: %w", werr)
		}
		return hint.Wrap(errAborted, "answer at a terminal, or pass --yes")
	}
	return hint.Wrap(errAborted, fmt.Sprintf("type %q exactly, or pass --yes", want))
}
