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
		if begins := regexp.MustCompile(word + ` begins\r?\n`).FindStringIndex(text[:ended[0]]); begins != nil {
			r.Output = text[begins[1]:ended[0]]
			r.Output = strings.ReplaceAll(r.Output[:strings.LastIndexByte(r.Output, '\n')+1], "\r\n", "\n") // the last line is the unit's
		}
		return r, nil
	}
	if sign, meaning := badSign(text); sign != "" {
		return Result{}, &Lasting{fmt.Errorf("%s: the console says %q; it ends with:\n%s", meaning, sign, Tail(text, consoleLines))}
	}
	return Result{}, fmt.Errorf("the console does not say that it has ended; it ends with:\n%s", Tail(text, consoleLines))
}
