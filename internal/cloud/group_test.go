package cloud_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/cloud"
)

// TestOnlyPortsThatAreClosedAreOpened has rules of a group that open 80 and 443 in different ways, and others that do not open 8080.
func TestOnlyPortsThatAreClosedAreOpened(t *testing.T) {
	const (
		network = `<DescribeVpcsResponse><vpcSet><item><vpcId>vpc-1</vpcId></item></vpcSet></DescribeVpcsResponse>`
		all     = `<item><ipProtocol>-1</ipProtocol></item>`
		others  = `<item><ipProtocol>tcp</ipProtocol><fromPort>80</fromPort><toPort>443</toPort></item>` +
			`<item><ipProtocol>udp</ipProtocol><fromPort>8000</fromPort><toPort>9000</toPort></item>` +
			`<item><ipProtocol>icmp</ipProtocol><fromPort>-1</fromPort><toPort>-1</toPort></item>`
	)
	for rules, want := range map[string][]string{others: {"8080"}, all: nil} {
		var opened []string
		c := openFake(t, fake(t, func(action string, form url.Values) (int, string) {
			switch action {
			case "DescribeVpcs":
				return http.StatusOK, network
			case "AuthorizeSecurityGroupIngress":
				opened = append(opened, form.Get("IpPermissions.1.FromPort"))
				return http.StatusOK, `<AuthorizeSecurityGroupIngressResponse><return>true</return></AuthorizeSecurityGroupIngressResponse>`
			}
			return http.StatusOK, `<DescribeSecurityGroupsResponse><securityGroupInfo><item><groupId>sg-1</groupId><ipPermissions>` + rules +
				`</ipPermissions></item></securityGroupInfo></DescribeSecurityGroupsResponse>`
		}))
		must[string](t)(c.EnsureSecurityGroup(t.Context(), cloud.GroupSpec{Name: "g", Ports: []int{80, 443, 8080}}))
		if diff := cmp.Diff(want, opened); diff != "" {
			t.Errorf("rules %s: opened (-want +got):\n%s", rules, diff)
		}
	}
}
