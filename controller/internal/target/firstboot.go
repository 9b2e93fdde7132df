package target

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"rehost/protocol"
)

// FirstBoot reads on the console how a script of the first boot ended. An error says that it has not.
func (t Target) FirstBoot(ctx context.Context, name string) (Result, error) {
	text, err := t.Cloud.ConsoleOutput(ctx, t.Instance)
	if err != nil {
		return Result{}, err
	}
	word := regexp.QuoteMeta(protocol.FirstBootWord) + `\d+-` + regexp.QuoteMeta(name)
	ended := regexp.MustCompile(word + ` ended with (\d+)\r?\n`).FindStringSubmatchIndex(text)
	if ended != nil { // the whole line: the console may have been read while it was written
		var r Result
		if r.Code, err = strconv.Atoi(text[ended[2]:ended[3]]); err != nil {
			return Result{}, fmt.Errorf("read how %s ended: %w", name, err)
		}
		if begins := regexp.MustCompile(`(?:(\S+)\[\d+\]: )?` + word + ` begins\r?\n`).FindStringSubmatchIndex(text[:ended[0]]); begins != nil {
			said := text[begins[1]:ended[0]]
			said = strings.ReplaceAll(said[:strings.LastIndexByte(said, '\n')+1], "\r\n", "\n") // the last line is the unit's
			who := ""
			if begins[2] >= 0 {
				who = text[begins[2]:begins[3]]
			}
			r.Output = saidBy(who, said)
		}
		return r, nil
	}
	if sign, meaning := badSign(text); sign != "" {
		return Result{}, &Lasting{fmt.Errorf("%s: the console says %q; it ends with:\n%s", meaning, sign, Tail(text, consoleLines))}
	}
	return Result{}, fmt.Errorf("the console does not say that it has ended; it ends with:\n%s", Tail(text, consoleLines))
}

// saidBy are the lines of a unit among those of the console, by the name that the journal writes before each, with the process that said it:
// `rehost-first-boot[406]: `. The rest of the guest boots meanwhile. A console without such names is taken as it is.
func saidBy(who, lines string) string {
	if who == "" {
		return lines
	}
	name := regexp.MustCompile(`(?:^|\s)` + regexp.QuoteMeta(who) + `\[\d+\]: `)
	var out strings.Builder
	for line := range strings.Lines(lines) {
		if at := name.FindStringIndex(line); at != nil {
			out.WriteString(line[at[1]:])
		}
	}
	return out.String()
}
