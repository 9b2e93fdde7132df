package cloudfault

import (
	"testing"

	"rehost/internal/cloud"
	"rehost/localcloud"
)

// TestFleetsOfOneAccount gives two fleets servers of the same name: neither finds the other's things, by which it would go on
// with them, sweep them or tear them down, and no port is open on a server because the other one asked for it.
func TestFleetsOfOneAccount(t *testing.T) {
	w := newWorld(t, localcloud.Faults{}, &recorder{calls: map[string]int{}})
	drivers := map[string]*cloud.Client{}
	for _, fleet := range []string{"a", "b", ""} {
		w.config.Fleet = fleet
		drivers[fleet] = w.driver()
	}
	image, err := drivers[""].FindImage(t.Context(), "rehost-convert")
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]map[string]string{}
	tags := cloud.Tags{cloud.TagServer: server, cloud.TagRole: cloud.RoleConversion}
	for _, fleet := range []string{"a", "b"} {
		d := drivers[fleet]
		v, err := d.CreateVolume(t.Context(), cloud.VolumeSpec{Token: fleet, Zone: "local-1a", SizeBytes: 1 << 30, Tags: tags})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.WaitVolume(t.Context(), v.ID, nil); err != nil {
			t.Fatal(err)
		}
		s, err := d.SnapshotVolume(t.Context(), v.ID, tags)
		if err != nil {
			t.Fatal(err)
		}
		if err := d.WaitSnapshots(t.Context(), []string{s.ID}, nil); err != nil {
			t.Fatal(err)
		}
		made[fleet] = map[string]string{"volume": v.ID, "snapshot": s.ID}
		i, err := d.RunInstance(t.Context(), cloud.InstanceSpec{Token: "i" + fleet, Image: image.ID, Type: "t3.small", Tags: tags})
		if err != nil {
			t.Fatal(err)
		}
		made[fleet]["instance"] = i.ID
		m, err := d.RegisterImage(t.Context(), cloud.ImageSpec{Name: "image-" + fleet, Root: s.ID, BootMode: "bios", Tags: tags}, nil)
		if err != nil {
			t.Fatal(err)
		}
		made[fleet]["image"] = m.ID
		spec := cloud.GroupSpec{Name: "rehost-launch-web", Description: "a", Ports: []int{22}, Tags: tags}
		if made[fleet]["security group"], err = d.EnsureSecurityGroup(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		if again, err := d.EnsureSecurityGroup(t.Context(), spec); err != nil || again != made[fleet]["security group"] {
			t.Errorf("fleet %s has the security groups %s and %s, %v", fleet, made[fleet]["security group"], again, err)
		}
	}
	for kind := range made["a"] {
		if made["a"][kind] == made["b"][kind] {
			t.Errorf("the %s of one fleet was given to the other", kind)
		}
	}
	for fleet, d := range drivers {
		for kind, ids := range found(t, d, tags) {
			if fleet != "" && (len(ids) != 1 || ids[0] != made[fleet][kind]) {
				t.Errorf("fleet %q finds %ss %v, made %s", fleet, kind, ids, made[fleet][kind])
			} else if fleet == "" && len(ids) != 2 {
				t.Errorf("who is of no fleet finds %ss %v, want both", kind, ids)
			}
		}
	}
}

// found lists what a driver finds by tags.
func found(t *testing.T, d *cloud.Client, tags cloud.Tags) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	volumes, err := d.Volumes(t.Context(), tags)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range volumes {
		if v.Snapshot == "" { // and not an instance's own
			out["volume"] = append(out["volume"], v.ID)
		}
	}
	snapshots, err := d.Snapshots(t.Context(), tags)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range snapshots {
		out["snapshot"] = append(out["snapshot"], s.ID)
	}
	instances, err := d.Instances(t.Context(), tags)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range instances {
		out["instance"] = append(out["instance"], i.ID)
	}
	images, err := d.Images(t.Context(), tags)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range images {
		out["image"] = append(out["image"], i.ID)
	}
	return out
}
