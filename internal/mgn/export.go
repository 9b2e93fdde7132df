package mgn

import (
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"

	"rehost/protocol"
)

// Export writes a fleet as MGN's inventory: a row for each server, for each application
// without servers, and for each wave without applications. It returns what has no column.
func Export(w io.Writer, fleet protocol.Fleet) (notes []string, err error) {
	launches := map[string]protocol.LaunchSettings{}
	for _, l := range fleet.Launches {
		launches[l.Name] = l
	}
	missing := map[string]bool{}
	var rows []map[string]string
	placed := map[string]bool{}
	server := func(s protocol.ServerSettings, app, wave string) {
		row := launchRow(launches[s.Launch], missing)
		row[serverID], row[platform], row[appName], row[waveName] = s.Name, "Linux", app, wave
		rows = append(rows, row)
	}
	byName := map[string]protocol.ServerSettings{}
	for _, s := range fleet.Servers {
		byName[s.Name] = s
	}
	waveOf := map[string]string{}
	for _, wave := range fleet.Waves {
		if len(wave.Applications) == 0 {
			rows = append(rows, map[string]string{waveName: wave.Name})
		}
		for _, a := range wave.Applications {
			waveOf[a] = wave.Name
		}
		if len(wave.After) > 0 {
			missing["after: MGN's waves have no order"] = true
		}
	}
	for _, a := range fleet.Applications {
		if len(a.Servers) == 0 {
			rows = append(rows, map[string]string{appName: a.Name, waveName: waveOf[a.Name]})
		}
		for _, name := range a.Servers {
			server(byName[name], a.Name, waveOf[a.Name])
			placed[name] = true
		}
	}
	for _, s := range fleet.Servers {
		if !placed[s.Name] {
			server(s, "", "")
		}
		if len(s.Checks) > 0 {
			missing["checks: in MGN they are post-launch actions"] = true
		}
		if len(s.Actions) > 0 {
			missing["actions: in MGN they are SSM documents"] = true
		}
	}
	return slices.Sorted(maps.Keys(missing)), writeRows(w, rows)
}

// launchRow fills the launch columns, and adds what has none to missing.
func launchRow(l protocol.LaunchSettings, missing map[string]bool) map[string]string {
	row := map[string]string{profile: l.Profile, tenancy: l.Tenancy}
	if l.InstanceType != protocol.InstanceTypeAuto {
		row[typeName] = l.InstanceType
	}
	for k, v := range l.Tags {
		row[instanceTag+k] = v
	}
	for _, d := range l.Disks {
		row["mgn:launch:volume:"+d.Name+":type"] = d.VolumeType
		missing["iops and throughput of a disk"] = missing["iops and throughput of a disk"] || d.IOPS > 0 || d.Throughput > 0
	}
	nicRow(row, 0, l.Subnet, l.SecurityGroups, "")
	for n, nic := range l.Interfaces {
		nicRow(row, n+1, nic.Subnet, nic.SecurityGroups, nic.PrivateIP)
	}
	for what, there := range map[string]bool{
		"test_subnet and test_security_groups": l.TestSubnet != "" || len(l.TestSecurityGroups) > 0,
		"user_data":                            l.UserData != "",
		"ingress_ports":                        len(l.IngressPorts) > 0,
		"private_ip = \"copy\"":                l.PrivateIP == "copy",
		"disposition = \"stopped\"":            l.Disposition == "stopped",
		"boot_mode":                            l.BootMode != "" && l.BootMode != "source",
		"http_tokens and http_hop_limit":       l.HTTPTokens != "" || l.HopLimit != 0,
		"network = \"keep\"":                   l.Network == "keep",
		"volume_type of a launch block":        l.VolumeType != "" && l.VolumeType != "gp3",
	} {
		if there {
			missing[what] = true
		}
	}
	maps.DeleteFunc(missing, func(_ string, there bool) bool { return !there })
	return row
}

func nicRow(row map[string]string, n int, subnet string, groups []string, address string) {
	at := "mgn:launch:nic:" + strconv.Itoa(n) + ":"
	row[at+"subnet-id"] = subnet
	for m, g := range groups {
		row[fmt.Sprintf("%ssecurity-group-id:%d", at, m)] = g
	}
	if address != "auto" {
		row[at+"private-ip:0"] = address
	}
}

// writeRows writes the columns that have a value somewhere, the fixed ones first.
func writeRows(w io.Writer, rows []map[string]string) error {
	used := map[string]bool{}
	for _, row := range rows {
		for column, v := range row {
			if v != "" && !slices.Contains(fixed, column) {
				used[column] = true
			}
		}
	}
	head := append(slices.Clone(fixed), slices.Sorted(maps.Keys(used))...)
	out := csv.NewWriter(w)
	if err := out.Write(head); err != nil {
		return err
	}
	for _, row := range rows {
		fields := make([]string, len(head))
		for i, column := range head {
			fields[i] = row[column]
		}
		if err := out.Write(fields); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}
