package storage

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"rehost/convert"
	"rehost/protocol"
)

// lvmConfig: nothing but the given devices is looked at, nobody else is asked or told, and nothing is kept.
const lvmConfig = `devices { use_devicesfile=0 hints="none" } global { use_lvmpolld=0 event_activation=0 }
backup { backup=0 archive=0 } activation { udev_sync=0 udev_rules=0 monitoring=0 auto_activation_volume_list=[] }`

// lvmName is what LVM allows as a name. It ends up in arguments, so it must be one.
var lvmName = regexp.MustCompile(`^[a-zA-Z0-9+_.][a-zA-Z0-9+_.-]{0,126}$`)

// volume is a logical volume as lvs reports it.
type volume struct {
	VG     string `json:"vg_name"`
	VGUUID string `json:"vg_uuid"`
	Lost   string `json:"vg_missing_pv_count"`
	PV     string `json:"pv_name"`
	Name   string `json:"lv_name"`
	UUID   string `json:"lv_uuid"`
	Layout string `json:"lv_layout"`
	Role   string `json:"lv_role"`
	Minor  string `json:"lv_kernel_minor"`
}

// incomplete says whether the volume's group lacks disks.
func (v volume) incomplete() bool { return v.Lost != "0" && v.Lost != "" }

// groups activates the volume groups whose physical volumes are all there.
func (g *Guest) groups(ctx context.Context) error {
	members := g.unclaimed("LVM2_member")
	if len(members) == 0 {
		return nil
	}
	if err := g.load("dm_mod"); err != nil {
		return err
	}
	var devices []string
	for _, p := range members {
		if err := g.block(ctx, p); err != nil {
			return err
		}
		p.claimed = true
		devices = append(devices, p.device)
	}
	l := lvm{guest: g, devices: devices}
	owners, err := l.report(ctx, "pvs", "vg_name,vg_uuid,vg_missing_pv_count,pv_name")
	if err != nil {
		g.skip(protocol.FindingLVM, "", "check LVM on the source: vgck", "LVM cannot be read: %v", err)
		return nil
	}
	for _, o := range owners {
		if i := slices.Index(devices, o.PV); i >= 0 {
			members[i].Group = "-"
			if !o.incomplete() && o.VG != "" {
				members[i].Group = o.VG
			}
		}
	}
	var seen []string
	for _, o := range owners {
		if o.VGUUID == "" || slices.Contains(seen, o.VGUUID) {
			continue
		}
		seen = append(seen, o.VGUUID)
		i := slices.Index(devices, o.PV)
		if i < 0 || !l.usable(o, owners) {
			continue
		}
		if err := l.activate(ctx, o, *members[i]); err != nil {
			return err
		}
	}
	return nil
}

// lvm runs LVM's commands on a set of devices.
type lvm struct {
	guest   *Guest
	devices []string
}

func (l lvm) run(ctx context.Context, command string, args ...string) ([]byte, error) {
	all := []string{command, "--devices", strings.Join(l.devices, ","), "--config", lvmConfig}
	return l.guest.tool(ctx, nil, "lvm", append(all, args...)...)
}

func (l lvm) report(ctx context.Context, command, fields string, args ...string) ([]volume, error) {
	out, err := l.run(ctx, command, append([]string{"--reportformat", "json", "-o", fields}, args...)...)
	if err != nil {
		return nil, err
	}
	var r struct {
		Report []struct {
			LV []volume `json:"lv"`
			PV []volume `json:"pv"`
		} `json:"report"`
	}
	if err := json.Unmarshal(out, &r); err != nil {
		return nil, fmt.Errorf("read the report of %s: %w", command, err)
	}
	var all []volume
	for _, part := range r.Report {
		all = append(append(all, part.LV...), part.PV...)
	}
	return all, nil
}

// usable says whether a volume group can be activated whole and without mistaking it for another one.
func (l lvm) usable(o volume, all []volume) bool {
	g := l.guest
	switch {
	case !lvmName.MatchString(o.VG):
		g.skip(protocol.FindingLVM, o.VGUUID, "check LVM on the source", "a volume group has a name that is none: %q", o.VG)
	case slices.ContainsFunc(all, func(v volume) bool { return v.VG == o.VG && v.VGUUID != o.VGUUID }):
		g.skip(protocol.FindingLVMName, o.VG, "rename one of them on the source: vgrename "+o.VGUUID+" NAME", "there are two volume groups %s; this one has UUID %s", o.VG, o.VGUUID)
	case o.incomplete():
		g.skip(protocol.FindingLVMIncomplete, o.VG, "replicate all disks of the volume group", "volume group %s lacks %s of its physical volumes", o.VG, o.Lost)
	default:
		return true
	}
	return false
}

// activate makes devices of a group's plain volumes.
func (l lvm) activate(ctx context.Context, group volume, base part) error {
	g := l.guest
	sel := []string{"--select", "vg_uuid=" + group.VGUUID}
	volumes, err := l.report(ctx, "lvs", "vg_name,vg_uuid,lv_name,lv_uuid,lv_layout,lv_role", sel...)
	if err != nil {
		g.skip(protocol.FindingLVM, group.VG, "check LVM on the source: vgck", "volume group %s cannot be read: %v", group.VG, err)
		return nil
	}
	var names []string
	for _, v := range volumes {
		switch {
		case !lvmName.MatchString(v.Name):
			g.skip(protocol.FindingLVM, group.VG, "check LVM on the source", "a logical volume of %s has a name that is none: %q", group.VG, v.Name)
		case strings.Contains(v.Layout, "thin"):
			g.skip(protocol.FindingThin, group.VG+"/"+v.Name, "move what is needed for booting to a linear volume on the source",
				"logical volume %s/%s is in a thin pool, which is not activated", group.VG, v.Name)
		case v.Layout != "linear" && v.Layout != "striped" || v.Role != "public":
			g.skip(protocol.FindingLVM, group.VG+"/"+v.Name, "move what is needed for booting to a linear volume on the source",
				"logical volume %s/%s is %s (%s); only plain linear and striped ones are activated", group.VG, v.Name, v.Layout, v.Role)
		default:
			names = append(names, group.VG+"/"+v.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	g.undo = append(g.undo, func() error {
		_, err := l.run(context.WithoutCancel(ctx), "vgchange", append(sel, "-an")...)
		return err
	})
	if _, err := l.run(ctx, "lvchange", append([]string{"-ay", "-K"}, names...)...); err != nil {
		g.skip(protocol.FindingLVM, group.VG, "check LVM on the source: vgck", "volume group %s cannot be activated: %v", group.VG, err)
		return nil
	}
	return l.take(ctx, sel, names, base)
}

// take adds what is on the active volumes.
func (l lvm) take(ctx context.Context, sel, names []string, base part) error {
	active, err := l.report(ctx, "lvs", "vg_name,lv_name,lv_uuid,lv_kernel_minor", sel...)
	if err != nil {
		return fmt.Errorf("find the active volumes: %w", err)
	}
	for _, v := range active {
		n, err := strconv.Atoi(v.Minor)
		if err != nil || n < 0 || !slices.Contains(names, v.VG+"/"+v.Name) {
			continue
		}
		layer := convert.Layer{Kind: convert.LayerLVM, Group: v.VG, Name: v.Name, UUID: v.UUID}
		if err := l.guest.made(ctx, fmt.Sprintf("/dev/dm-%d", n), base, layer); err != nil {
			return err
		}
	}
	return nil
}
