package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Where an installed agent's files are below a server's root.
const (
	agentBinary = "usr/bin/rehost-agent"
	agentUnit   = "etc/systemd/system/rehost-agent.service"
	agentWanted = "etc/systemd/system/multi-user.target.wants/rehost-agent.service"
	agentConfig = "etc/rehost/agent.hcl"
)

// InstallAgent puts an agent on the server mounted at root, as its package does:
// the program, its unit (enabled) and its configuration, each copied from the file
// given. The conversion has then a real agent to remove.
func InstallAgent(root, binary, unit, config string) error {
	for _, f := range []struct {
		from, to string
		mode     fs.FileMode
	}{
		{binary, agentBinary, 0o755},
		{unit, agentUnit, 0o644},
		{config, agentConfig, 0o640},
	} {
		if err := copyFile(f.from, filepath.Join(root, f.to), f.mode); err != nil {
			return fmt.Errorf("install the agent: %w", err)
		}
	}
	link := filepath.Join(root, agentWanted)
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return fmt.Errorf("install the agent: %w", err)
	}
	if err := os.Symlink("/"+agentUnit, link); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("enable the agent: %w", err)
	}
	return nil
}

func copyFile(from, to string, mode fs.FileMode) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	return os.WriteFile(to, data, mode)
}
