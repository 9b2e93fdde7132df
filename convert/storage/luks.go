package storage

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"time"

	"rehost/convert"
	"rehost/protocol"
)

// luksUUID is what a LUKS header may have as its UUID: it becomes a part of a device's name.
var luksUUID = regexp.MustCompile(`^[0-9a-fA-F-]{1,40}$`)

// unlock opens what is encrypted, with the passphrase of the launch settings.
func (g *Guest) unlock(ctx context.Context) error {
	for _, p := range g.unclaimed("crypto_LUKS") {
		p.claimed = true
		if err := g.unlockOne(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// luksDrivers are what opening LUKS takes.
var luksDrivers = []string{"dm_mod", "dm_crypt", "algif_skcipher", "algif_hash", "aes_generic", "aesni_intel", "xts", "ecb", "cbc", "essiv", "sha256_generic", "sha512_generic"}

func (g *Guest) unlockOne(ctx context.Context, p *part) error {
	const next = "set luks_passphrase_file in the launch block, or --passphrase-file"
	uuid := p.UUID
	switch {
	case !luksUUID.MatchString(uuid):
		g.skip(protocol.FindingEncrypted, uuid, "check it on the source", "a LUKS header has a UUID that is none")
		return nil
	case g.opt.Passphrase == "":
		g.skip(protocol.FindingEncrypted, uuid, next, "the LUKS device with UUID %s is encrypted, and no passphrase was given", uuid)
		return nil
	}
	if err := g.block(ctx, p); err != nil {
		return err
	}
	if err := g.load(luksDrivers...); err != nil {
		return err
	}
	name := "rehost-luks-" + uuid
	start := time.Now()
	// Slots of the header may cost any time and memory: a limit is all that there is against it.
	slow, cancel := context.WithTimeout(ctx, unlockLimit)
	defer cancel()
	_, err := g.tool(slow, []byte(g.opt.Passphrase), "cryptsetup", "open", "--type", "luks", "--key-file=-", "--batch-mode", "--disable-keyring", p.device, name)
	if err != nil {
		reason := err.Error()
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 2 {
			reason = "the passphrase is not the right one"
		}
		g.skip(protocol.FindingEncrypted, uuid, next, "the LUKS device with UUID %s cannot be opened: %s", uuid, reason)
		return nil
	}
	g.undo = append(g.undo, func() error {
		_, err := g.tool(context.WithoutCancel(ctx), nil, "cryptsetup", "close", name)
		return err
	})
	g.opt.Progress(fmt.Sprintf("opened LUKS %s in %.1f s", uuid, time.Since(start).Seconds()))
	return g.made(ctx, "/dev/mapper/"+name, *p, convert.Layer{Kind: convert.LayerLUKS, UUID: uuid})
}
