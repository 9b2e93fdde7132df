package target

import (
	"context"
	"fmt"
	"strings"

	"rehost/protocol"
)

// consoleLines is how much of a console's end an error shows.
const consoleLines = 10

// signs are what a guest writes that waits for a person at its console, or will never go on. dracut's own "initqueue timeout" is none: it goes on then
// with half of a RAID, and says "Could not boot" when that was not enough.
var signs = []struct{ text, meaning string }{
	{"Kernel panic - not syncing", "the kernel has panicked"},
	{"Give root password for maintenance", "it is in emergency mode, and waits for root's password"},
	{"Press Enter for maintenance", "it is in emergency mode, and waits for somebody to press Enter"},
	{"Cannot open access to console, the root account is locked", "it is in emergency mode, and root is locked"},
	{"You are in emergency mode", "it is in emergency mode"},
	{"Entering emergency mode", "it is in the emergency shell of its initramfs"},
	{"Warning: Could not boot", "its initramfs has not found the root filesystem"},
	{"Dropping to a shell!", "its initramfs has not found the root filesystem, and waits in a shell"},
	{"(initramfs)", "it waits in the shell of its initramfs"},
	{"grub rescue>", "GRUB has not found its files, and waits at its prompt"},
	{"No bootable device", "the firmware has found nothing to boot"},
}

// askConsole wants a text, and knows when it will not come.
func (t Target) askConsole(ctx context.Context, c protocol.CheckSettings) error {
	text, err := t.Cloud.ConsoleOutput(ctx, t.Instance)
	if err != nil {
		return err
	}
	if strings.Contains(text, c.Contains) {
		return nil
	}
	if sign, meaning := badSign(text); sign != "" {
		return &Lasting{fmt.Errorf("%s: the console says %q; it ends with:\n%s", meaning, sign, Tail(text, consoleLines))}
	}
	return fmt.Errorf("the console does not contain %q; it ends with:\n%s", c.Contains, Tail(text, consoleLines))
}

// badSign finds a sign in what the last boot has written. A guest that has panicked may have started anew since.
func badSign(text string) (sign, meaning string) {
	if i := strings.LastIndex(text, "Linux version "); i >= 0 {
		text = text[i:]
	}
	for _, s := range signs {
		if strings.Contains(text, s.text) {
			return s.text, s.meaning
		}
	}
	return "", ""
}

// Tail returns the last lines of a text.
func Tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\r\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
