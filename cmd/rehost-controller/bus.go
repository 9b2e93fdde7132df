package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/go-hclog"

	"rehost/controller"
	"rehost/internal/broker"
	"rehost/internal/bus"
	"rehost/internal/config"
	"rehost/internal/hint"
	"rehost/internal/version"
	"rehost/protocol"
)

// external reads what a controller needs for a bus that others run. With the keys it makes its own identity when it has none yet.
func external(b config.ExternalBus) (at bus.Context, keys *broker.Authority, err error) {
	ca, err := os.ReadFile(b.CAFile)
	if err != nil {
		return at, nil, hint.Wrap(fmt.Errorf("read the bus's authority: %w", err), "copy bus/ca.pem of the bus's data folder, and name it in ca_file")
	}
	if keys, err = broker.OpenAuthority(b.AuthorityDir); err != nil {
		return at, nil, hint.Wrap(err, "copy bus/authority.json of the bus's data folder, and name its folder in authority_dir")
	}
	identity, err := bus.LoadIdentity(b.IdentityFile)
	if errors.Is(err, fs.ErrNotExist) {
		if identity, err = keys.Identity(protocol.RoleController, ownName()); err == nil {
			err = bus.SaveIdentity(b.IdentityFile, identity)
		}
	}
	if err != nil {
		return at, nil, fmt.Errorf("read the controller's identity: %w", err)
	}
	return bus.Context{Bus: protocol.Bus{Servers: b.Servers, CA: string(ca)}, Identity: identity}, keys, nil
}

// ownName is the host's, as far as an identity may have it.
func ownName() string {
	host, err := os.Hostname()
	name, _, _ := strings.Cut(host, ".")
	if err != nil || protocol.CheckName(name) != nil {
		return "main"
	}
	return name
}

// runBus runs the bus alone.
func runBus(ctx context.Context, cfg controller.Config, stderr io.Writer) error {
	logger := hclog.New(&hclog.LoggerOptions{Name: "bus", Output: stderr})
	logger.Info("bus starts", "version", version.String(), "dir", cfg.Dir)
	return controller.RunBus(ctx, cfg, controller.Deps{Logger: logger, Ready: func(at protocol.Bus) {
		logger.Info("bus ready", "servers", at.Servers)
		notify(logger, daemon.SdNotifyReady)
	}})
}

// notify tells systemd, if it is there.
func notify(logger hclog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		logger.Debug("notify systemd", "error", err)
	}
}
