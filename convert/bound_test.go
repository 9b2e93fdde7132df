package convert

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/protocol"
)

// TestWhatIsBoundToTheOldNetwork: such a server boots, and nobody reaches it.
func TestWhatIsBoundToTheOldNetwork(t *testing.T) {
	files := debian(t)
	files["etc/ssh/sshd_config"] = "Port 22\nInclude /etc/ssh/sshd_config.d/*.conf\n"
	files["etc/ssh/sshd_config.d/10-management.conf"] = "ListenAddress 10.0.2.15\n"
	files["etc/sysconfig/iptables"] = "*filter\n:INPUT DROP [0:0]\n-A INPUT -i lo -j ACCEPT\n# -A INPUT -i ens9 -j ACCEPT\n-A INPUT -i ens192 -p tcp --dport 22 -j ACCEPT\n-A INPUT -i docker0 -j ACCEPT\nCOMMIT\n"
	files["etc/nftables.conf"] = "chain input {\n\tiifname \"ens3\" tcp dport 22 accept\n\tiif eth0 accept\n}\n"
	files["etc/ufw/user.rules"] = "-A ufw-user-input -p tcp --dport 22 -j ACCEPT\n"
	_, root := newGuest(t, files)
	for network, want := range map[string][]string{
		"dhcp": {
			"warning bound-to-network /etc/ssh/sshd_config", "warning bound-to-network /etc/sysconfig/iptables", "warning bound-to-network /etc/nftables.conf",
		},
		"keep": nil,
	} {
		plan, err := planFor(t, root, protocol.ConversionSettings{Network: network})
		if err != nil {
			t.Fatal(err)
		}
		var got []protocol.Finding
		for _, f := range plan.Findings {
			if f.Code == protocol.FindingBound {
				got = append(got, f)
			}
		}
		if diff := cmp.Diff(want, codes(got)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", network, diff)
		}
	}
}

func TestListenAddress(t *testing.T) {
	for text, want := range map[string]string{
		"Port 22\n#ListenAddress 10.0.0.1\n":                               "",
		"ListenAddress 127.0.0.1\nlistenaddress 10.0.2.15:22\n":            "10.0.2.15:22",
		"ListenAddress 10.0.2.15\nListenAddress 0.0.0.0\n":                 "",
		"ListenAddress [2001:db8::1]:2222\n":                               "[2001:db8::1]:2222",
		"ListenAddress 2001:db8::1\nListenAddress [::]:22\n":               "",
		"ListenAddress web1.example.org\nListenAddress\nListenAddress x:y": "",
	} {
		if got := listenAddress(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
