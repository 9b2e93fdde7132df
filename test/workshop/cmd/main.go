// Command cmd is the first process of a workshop.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"rehost/convert/machine"
	"rehost/internal/command"
	"rehost/test/workshop"
)

func main() {
	console := machine.Console()
	say := func(text string) { _, _ = fmt.Fprintf(console, "workshop: %s\r\n", text) }
	if err := work(context.Background(), say); err != nil {
		say("error: " + err.Error())
	} else {
		_, _ = fmt.Fprintf(console, "%s\r\n", workshop.Done)
	}
	say(machine.PowerOff(console).Error())
	select {}
}

func work(ctx context.Context, say func(string)) error {
	tools, err := machine.Prepare(say)
	if err != nil {
		return err
	}
	data, err := tools.HandedIn()
	if err != nil {
		return err
	}
	var w workshop.Work
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	for _, d := range append([]string{"nvme"}, w.Drivers...) {
		if err := tools.Load(d); err != nil {
			return err
		}
	}
	for _, s := range w.Steps {
		say(fmt.Sprint(s.Args))
		if s.Args[0] == "copy" {
			err = copyDevice(s.Args[1], s.Args[2])
		} else if err = tools.Program(s.Args[0]); err == nil {
			_, err = command.RunIn(ctx, "", []byte(s.Stdin), s.Args[0], s.Args[1:]...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func copyDevice(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Sync()
}
