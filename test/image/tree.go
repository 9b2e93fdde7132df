package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rehost/internal/command"
	"rehost/internal/hint"
)

// Tree returns the path of a tar archive of a root with the packages, and makes it first when the cache has none:
// about a minute, and a download. name is part of the file's name. Needs root.
func Tree(ctx context.Context, o Options, name string, packages []string) (string, error) {
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	if os.Geteuid() != 0 {
		return "", hint.New("build a root tree: not root", "run it with sudo: mmdebstrap needs root")
	}
	dir, err := cacheDir(o.CacheDir)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Append(nil, recipeVersion, packages))
	base := filepath.Join(dir, name)
	path := base + "-" + hex.EncodeToString(sum[:])[:12] + ".tar"
	unlock, err := lock(ctx, base+".lock", o.Progress)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	w := work{dir: base + ".building", progress: o.Progress}
	if err := errors.Join(os.RemoveAll(w.dir), os.MkdirAll(w.dir, 0o755)); err != nil {
		return "", fmt.Errorf("build a root tree: %w", err)
	}
	defer func() { _ = os.RemoveAll(w.dir) }() // the next build removes it too
	if err := w.tree(ctx, packages); err != nil {
		return "", fmt.Errorf("build the root tree %s: %w", name, err)
	}
	if err := os.Rename(w.archive(), path); err != nil {
		return "", fmt.Errorf("keep the root tree %s: %w", name, err)
	}
	old, err := filepath.Glob(base + "-*.tar")
	for _, p := range old {
		if p != path {
			err = errors.Join(err, os.Remove(p))
		}
	}
	return path, err
}

func (w work) archive() string { return filepath.Join(w.dir, "tree.tar") }

// tree writes the archive.
func (w work) tree(ctx context.Context, packages []string) error {
	args := slices.Concat([]string{
		"--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "--",
		"mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar", "--include=" + strings.Join(packages, ","),
	}, dpkgOptions)
	apt, err := w.aptOptions(ctx)
	if err != nil {
		return err
	}
	sources, err := w.aptSources()
	if err != nil {
		return err
	}
	args = append(append(append(args, apt...), "bookworm", w.archive()), sources...)
	w.progress("making a root tree with mmdebstrap")
	if _, err := command.Run(ctx, "unshare", args...); err != nil {
		return hint.Wrap(err, "run `apt-get update`: mmdebstrap installs from the same archive, and its errors say more")
	}
	return nil
}
