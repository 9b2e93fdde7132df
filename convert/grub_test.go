package convert

import (
	"slices"
	"strings"
	"testing"

	"rehost/protocol"
)

func entryOf(kernel string) string { return "\tlinux /boot/" + kernel + " root=x\n" }

func TestDefaultEntry(t *testing.T) {
	config := "set default=\"%\"\nmenuentry 'A' --class x $menuentry_id_option 'id-a' {\n" + entryOf("a") + "}\n" +
		"submenu 'Sub' $menuentry_id_option 'id-sub' {\n\tmenuentry 'B' --id id-b {\n" + entryOf("b") + "\t}\n\tmenuentry \"C's\" {\n" + entryOf("c") + "\t}\n}\n" +
		"menuentry 'Memtest' {\n\tlinux16 /boot/memtest\n}\nmenuentry 'Firmware' {\n\tfwsetup\n}\n"
	for _, tt := range []struct {
		chosen string
		env    map[string]string
		want   string
	}{
		{"0", nil, "a"},
		{"1", nil, "b"},
		{"1>1", nil, "c"},
		{"1>0", nil, "b"},
		{"2", nil, "memtest"},
		{"3", nil, "a"}, // has no kernel
		{"9", nil, "a"},
		{"B", nil, "a"}, // titles are paths
		{"Sub>B", nil, "b"},
		{"id-sub>id-b", nil, "b"},
		{"Sub>C's", nil, "c"},
		{"${saved_entry}", map[string]string{"saved_entry": "id-sub>id-b"}, "b"},
		{"${saved_entry}", nil, "a"},
		{"", nil, "a"},
	} {
		entries, chosen := menu(strings.Replace(config, "%", tt.chosen, 1), nil)
		got, ok := defaultEntry(entries, chosen, tt.env, false)
		if !ok || got.kernel != "/boot/"+tt.want {
			t.Errorf("default %q, env %v: got %q, %v, want %s", tt.chosen, tt.env, got.kernel, ok, tt.want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	p := &planner{facts: Facts{Disks: testDisks}, set: protocol.ConversionSettings{Network: "dhcp"}}
	p.facts.Guest.RootUUID = rootUUID
	add := append(append(slices.Clone(consoleArgs), "nvme_core.io_timeout=4294967295"), nameArgs...)
	for _, tt := range []struct{ in, want string }{
		{"root=/dev/vda1 ro quiet", "root=UUID=" + rootUUID + " ro"},
		{"root=/dev/sda1 ro splash", "root=UUID=" + rootUUID + " ro"},
		{"root=/dev/sdc7 ro", "root=UUID=" + rootUUID + " ro"},
		{"root=/dev/mapper/mpatha2 ro", "root=UUID=" + rootUUID + " ro"},
		{"root=UUID=x console=hvc0 console=ttyS0", "root=UUID=x"},
		{"resume=/dev/vda2 a=b", "resume=UUID=" + swapUUID + " a=b"},
		{"resume=/dev/vdb3 a=b", "a=b"},
		{"resume=UUID=gone a=b", "a=b"},
		{"resume=/dev/mapper/vg-swap", ""},
		{"net.ifnames=1 nvme_core.io_timeout=30", ""},
		{strings.Join(add, " "), ""},
	} {
		want := strings.TrimSpace(tt.want + " " + strings.Join(add, " "))
		got := strings.Join(p.commandLine(strings.Fields(tt.in), ""), " ")
		if got != want {
			t.Errorf("%s: got %s, want %s", tt.in, got, want)
		}
		if again := strings.Join(p.commandLine(strings.Fields(got), ""), " "); again != got {
			t.Errorf("%s: the second time gives %s", tt.in, again)
		}
	}
}

func FuzzGrub(f *testing.F) {
	f.Add(grubCfgOfDebian)
	f.Add("submenu x {\n}\n}\nmenuentry y {\n linux z\n")
	seeds(f, func(name string) bool { return strings.HasSuffix(name, "grub.cfg") || name == "etc/default/grub" }, func(text string) { f.Add(text) })
	f.Fuzz(func(t *testing.T, config string) {
		entries, chosen := menu(config, nil)
		defaultEntry(entries, chosen, nil, true)
		p := &planner{chosen: &BootEntry{ID: "a>b"}, facts: Facts{Disks: testDisks, Files: map[string]File{"/boot/grub/i386-pc/serial.mod": {}}}, set: protocol.ConversionSettings{Network: "dhcp"}}
		once := p.grubCfg(config)
		if twice := p.grubCfg(once); twice != once {
			t.Errorf("%q:\nonce:  %q\ntwice: %q", config, once, twice)
		}
		once = p.grubDefault(config)
		if twice := p.grubDefault(once); twice != once {
			t.Errorf("defaults %q:\nonce:  %q\ntwice: %q", config, once, twice)
		}
	})
}
