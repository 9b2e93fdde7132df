package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// verbs are all commands that do something, without cobra's own.
func verbs(cmd *cobra.Command) (out []*cobra.Command) {
	for _, sub := range cmd.Commands() {
		switch {
		case sub.Name() == "help" || sub.Name() == "completion" || sub.Hidden:
		case sub.HasSubCommands():
			out = append(out, verbs(sub)...)
		default:
			out = append(out, sub)
		}
	}
	return out
}

// Every verb says what it does, shows how, and its examples are commands that exist with flags that they have.
func TestEveryVerbHasHelpWithExamples(t *testing.T) {
	env, _, _ := testEnv("", "")
	root := newRoot(env)
	all := verbs(root)
	if len(all) < 25 {
		t.Errorf("only %d verbs were found", len(all))
	}
	for _, cmd := range all {
		t.Run(cmd.CommandPath(), func(t *testing.T) {
			if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
				t.Errorf("the short text is %q", cmd.Short)
			}
			env, out, _ := testEnv("", "")
			if code := Main(t.Context(), env, append(strings.Fields(cmd.CommandPath())[1:], "--help")); code != exitOK {
				t.Fatalf("--help ends with %d", code)
			}
			for _, want := range []string{"Usage:", "Examples:\n  " + cmd.CommandPath(), "Exit codes:"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("--help lacks %q", want)
				}
			}
			for line := range strings.Lines(cmd.Example) {
				wantCommand(t, line)
			}
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				if f.Usage == "" {
					t.Errorf("flag --%s has no text", f.Name)
				}
			})
		})
	}
}

// wantCommand takes a line such as "rehost wave test first   and why" and checks command, arguments and flags, without running it.
func wantCommand(t *testing.T, line string) {
	t.Helper()
	line, _, _ = strings.Cut(strings.TrimSpace(line), " #")
	line, _, _ = strings.Cut(line, "   ") // what it is for
	words := split(line)
	for len(words) > 0 && strings.Contains(words[0], "=") { // a variable for it
		words = words[1:]
	}
	if len(words) == 0 || words[0] != "rehost" {
		t.Errorf("%q is no command of rehost", line)
		return
	}
	env, _, _ := testEnv("", "")
	root := newRoot(env)
	root.InitDefaultCompletionCmd()
	cmd, rest, err := root.Find(words[1:])
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err == nil && cmd == root && len(words) > 1 {
		err = cmd.Args(cmd, rest)
	}
	if err != nil {
		t.Errorf("%s: %v", strings.TrimSpace(line), err)
	}
}

// split takes a command line apart as a shell does, as far as examples go: quotes, and what is redirected.
func split(line string) (words []string) {
	line, _, _ = strings.Cut(line, " > ")
	line, _, _ = strings.Cut(line, " | ")
	quoted, word, open := false, "", false
	for _, r := range strings.TrimSpace(line) {
		switch {
		case r == '"':
			quoted, open = !quoted, true
		case r == ' ' && !quoted:
			if open || word != "" {
				words = append(words, word)
			}
			word, open = "", false
		default:
			word += string(r)
		}
	}
	if open || word != "" {
		words = append(words, word)
	}
	return words
}
