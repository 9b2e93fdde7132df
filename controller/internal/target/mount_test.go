package target

import "testing"

const fstab = `# <file system> <mount point> <type>
UUID=1 / ext4 errors=remount-ro 0 1
UUID=2 /srv/my\040files/ xfs nofail 0 2
UUID=3 none swap sw 0 0
UUID=4 /backup ext4 noauto 0 0
tmpfs /tmp tmpfs defaults 0 0
`

const mounts = `/dev/nvme0n1p1 / ext4 rw 0 0
/dev/nvme1n1 /srv/my\040files xfs rw 0 0
tmpfs /tmp tmpfs rw 0 0
`

const space = `Filesystem     1024-blocks    Used Available Capacity Mounted on
/dev/nvme0n1p1     4096000 3000000   1048576      75% /
/dev/nvme1n1       1024000 1000000     24000      98% /srv/my files
tmpfs                  100       0       100       0% /tmp
`

func TestMounts(t *testing.T) {
	for _, c := range []struct {
		name, mounts string
		free         int64
		want         string
	}{
		{"all there", mounts, 0, ""},
		{"all there, with room", mounts, 20 << 20, ""}, // a tmpfs has no disk
		{"full", mounts, 1 << 30, "/srv/my files has 23.4 MiB free, wanted 1.0 GiB"},
		{"one lacks", "/dev/nvme0n1p1 / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n", 0, "/srv/my files (UUID=2) is not mounted"},
	} {
		got := ""
		if err := judgeMounts(fstab, c.mounts, space, c.free); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
