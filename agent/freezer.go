package agent

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"rehost/agent/internal/freeze"
	"rehost/agent/internal/host"
	"rehost/protocol"
)

// hostFreezer freezes the filesystems that are mounted from the disks, through a helper process that is kept between points.
type hostFreezer struct {
	disks []string
	log   hclog.Logger

	mu     sync.Mutex // guards the fields beneath
	helper *freeze.Helper
	froze  bool
}

func newHostFreezer(disks []string, log hclog.Logger) *hostFreezer {
	return &hostFreezer{disks: disks, log: log}
}

// Sync writes out every filesystem, side by side.
func (f *hostFreezer) Sync(ctx context.Context) error {
	filesystems, err := host.Filesystems(f.disks)
	if err != nil {
		return fmt.Errorf("list filesystems: %w", err)
	}
	g, _ := errgroup.WithContext(ctx)
	for _, fs := range filesystems {
		g.Go(func() error { return syncMount(fs.Mount) })
	}
	return g.Wait()
}

func syncMount(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open %s to write it out: %w", path, err)
	}
	defer d.Close() //nolint:errcheck // opened for reading
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("write out %s: %w", path, err)
	}
	return nil
}

// Freeze freezes what is mounted now. A filesystem that cannot freeze lowers the grade.
func (f *hostFreezer) Freeze(ctx context.Context, limit time.Duration) (Still, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	filesystems, err := host.Filesystems(f.disks)
	if err != nil {
		return Still{}, fmt.Errorf("list filesystems: %w", err)
	}
	if len(filesystems) == 0 {
		// Whoever writes to the raw disk is seen by the tracker: the point is taken when nobody did meanwhile.
		return Still{Grade: protocol.GradeCrash}, nil
	}
	var mounts []string
	for _, fs := range filesystems {
		mounts = append(mounts, fs.Mount)
	}
	if f.helper == nil {
		// The helper lives longer than this point.
		if f.helper, err = freeze.Start(context.WithoutCancel(ctx), f.log, freeze.Options{}); err != nil {
			f.helper = nil
			return Still{}, err
		}
	}
	if err := f.helper.Prepare(ctx, mounts); err != nil {
		f.dropLocked()
		return Still{}, fmt.Errorf("prepare the freeze: %w", err)
	}
	f.froze = true
	result, err := f.helper.Freeze(ctx, limit)
	if err != nil {
		return Still{}, err
	}
	if len(result.NotFreezable) > 0 {
		return Still{Grade: protocol.GradeCrash, Since: result.Since, Excluded: result.NotFreezable}, nil
	}
	return Still{Grade: protocol.GradeFilesystem, Since: result.Since}, nil
}

// Thaw lets everything go. After a fault the helper is replaced.
func (f *hostFreezer) Thaw() (time.Duration, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.froze {
		return 0, nil
	}
	f.froze = false
	held, intact, err := f.helper.Thaw()
	if err != nil {
		f.dropLocked()
		return held, err
	}
	if !intact {
		return held, fmt.Errorf("the filesystems did not stay frozen: thawed by the timer after %s, or by somebody else", held.Round(time.Millisecond))
	}
	return held, nil
}

func (f *hostFreezer) dropLocked() {
	if err := f.helper.Close(); err != nil {
		f.log.Warn("freeze helper", "error", err)
	}
	f.helper, f.froze = nil, false
}

func (f *hostFreezer) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.helper == nil {
		return nil
	}
	err := f.helper.Close()
	f.helper = nil
	return err
}

// FreezeHelper is the helper process that an agent starts from its own binary.
func FreezeHelper(ctx context.Context, args []string, in io.Reader, out io.Writer) error {
	return freeze.HelperMain(ctx, args, in, out)
}
