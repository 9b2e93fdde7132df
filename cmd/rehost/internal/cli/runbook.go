package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"rehost/internal/progress"
	"rehost/protocol"
)

func newWavePlan(env Env, c *client) *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "plan NAME", Short: "Print the cutover of a wave as a runbook, with predicted times", Args: one("NAME"),
		Long: "Print how the cutover of a wave would go: its gates and whether they are open, its steps in their order with who does them, when they are\n" +
			"predicted to begin and end, what shows success and what leads back, and how long servers, applications and the wave will be down.\n" +
			"Times count from the earliest start: now, or when a window opens that the cutover fits into. Nothing is changed.",
		Example: "  rehost wave plan first\n  rehost wave plan first -o markdown > runbook.md\n  rehost wave plan first -o json",
	}
	outputFlag(cmd, &output, "markdown")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		defer c.close()
		book, err := askWithin[protocol.RunbookRequest, protocol.Runbook](cmd.Context(), c, gatesTimeout, protocol.VerbRunbook, protocol.RunbookRequest{Wave: args[0]})
		if err != nil {
			return err
		}
		var p printer
		switch output {
		case "json":
			return writeJSON(env.Stdout, book)
		case "markdown":
			runbookMarkdown(&p, book)
		default:
			runbookText(&p, env, book)
		}
		return p.flush(env.Stdout)
	}
	return cmd
}

// runbookHead says when the cutover of a wave could begin, and how long it takes.
func runbookHead(b protocol.Runbook) string {
	when := "now"
	if b.Start.After(b.At) {
		when = b.Start.Format("Mon 2006-01-02 15:04 MST")
	}
	return fmt.Sprintf("earliest start: %s; predicted end after %s; %s at once", when, progress.Short(b.End.Sub(b.Start)), number(b.Concurrency, "server"))
}

// since is a time that is counted from a start.
func since(start, at time.Time) string { return "+" + progress.Short(at.Sub(start)) }

func gateTable(gates []protocol.Gate) [][]string {
	rows := [][]string{{"GATE", "STATE", "WANTED", "WHY"}}
	for _, g := range gates {
		state := "closed"
		if g.Open {
			state = "open"
		}
		rows = append(rows, []string{g.Name, state, g.Want, oneLine(g.Why)})
	}
	return rows
}

func downtimeTable(b protocol.Runbook) [][]string {
	rows := [][]string{{"DOWN", "PREDICTED", "FROM"}}
	for _, d := range b.Downtimes {
		rows = append(rows, []string{d.Of, progress.Short(d.Time), d.Basis})
	}
	return rows
}

// numbers writes runs of numbers as ranges.
func numbers(all []int) string {
	var out []string
	for i := 0; i < len(all); {
		j := i
		for j+1 < len(all) && all[j+1] == all[j]+1 {
			j++
		}
		text := strconv.Itoa(all[i])
		if j > i {
			text += "-" + strconv.Itoa(all[j])
		}
		out = append(out, text)
		i = j + 1
	}
	return strings.Join(out, ",")
}

func runbookText(p *printer, env Env, b protocol.Runbook) {
	p.line("wave %s: %s", b.Wave, runbookHead(b))
	for _, n := range b.Notes {
		p.line("note: %s", n)
	}
	p.line("")
	for _, g := range b.Gates {
		gateLines(p, g)
	}
	if len(b.Gates) > 0 {
		p.line("")
	}
	for _, s := range b.Steps {
		after := ""
		if len(s.After) > 0 {
			after = "  (after " + numbers(s.After) + ")"
		}
		p.line("%3d  %s to %s  %s%s", s.Number, since(b.Start, s.Begin), since(b.Start, s.End), s.What, after)
		p.line("     by %s", s.Who)
		p.line("     success: %s", s.Success)
		p.line("     way back: %s", s.Back)
	}
	p.line("")
	p.table(env.Width, []int{2}, downtimeTable(b))
}

func runbookMarkdown(p *printer, b protocol.Runbook) {
	p.line("# Cutover of wave %s\n", b.Wave)
	p.line("Made at %s; %s.", b.At.Format(time.RFC3339), runbookHead(b))
	for _, n := range b.Notes {
		p.line("\nNote: %s.", n)
	}
	if len(b.Gates) > 0 {
		markdownTable(p, "Gates", gateTable(b.Gates))
	}
	rows := [][]string{{"STEP", "WHAT", "AFTER", "WHO", "BEGIN", "END", "SUCCESS", "WAY BACK"}}
	for _, s := range b.Steps {
		rows = append(rows, []string{strconv.Itoa(s.Number), s.What, numbers(s.After), s.Who, since(b.Start, s.Begin), since(b.Start, s.End), s.Success, s.Back})
	}
	markdownTable(p, "Steps", rows)
	markdownTable(p, "Downtime", downtimeTable(b))
}

func markdownTable(p *printer, title string, rows [][]string) {
	p.line("\n## %s\n", title)
	for i, row := range rows {
		cells := make([]string, len(row))
		for j, c := range row {
			if i == 0 {
				c = strings.ToLower(c)
			}
			cells[j] = strings.ReplaceAll(c, "|", `\|`)
		}
		p.line("| %s |", strings.Join(cells, " | "))
		if i == 0 {
			p.line("|%s", strings.Repeat("---|", len(row)))
		}
	}
}
