package cloud_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rehost/internal/cloud"
)

// TestNetworkInterfacesOfALaunch looks at what EC2 is asked for: with further interfaces, the first one stands among them and nowhere else.
func TestNetworkInterfacesOfALaunch(t *testing.T) {
	asked := map[string]string{}
	cfg := fake(t, func(action string, form url.Values) (int, string) {
		if action == "DescribeInstances" {
			return http.StatusOK, `<DescribeInstancesResponse><reservationSet/></DescribeInstancesResponse>`
		}
		clear(asked)
		for k := range maps.Keys(form) {
			if strings.HasPrefix(k, "NetworkInterface") || slices.Contains([]string{"SubnetId", "SecurityGroupId.1", "PrivateIpAddress"}, k) {
				asked[k] = form.Get(k)
			}
		}
		return http.StatusOK, `<RunInstancesResponse><instancesSet><item><instanceId>i-1</instanceId></item></instancesSet></RunInstancesResponse>`
	})
	c := openFake(t, cfg)
	spec := cloud.InstanceSpec{
		Token: "t", Image: "ami-1", Type: "t3.small", Subnet: "subnet-1", SecurityGroups: []string{"sg-1"}, Tags: cloud.Tags{"a": "b"},
		Options: cloud.LaunchOptions{PrivateIP: "10.0.0.7"},
	}
	for name, s := range map[string]struct {
		more []cloud.NetworkInterface
		want map[string]string
	}{
		"one": {nil, map[string]string{"SubnetId": "subnet-1", "SecurityGroupId.1": "sg-1", "PrivateIpAddress": "10.0.0.7"}},
		"three": {[]cloud.NetworkInterface{{Subnet: "subnet-2", SecurityGroups: []string{"sg-2", "sg-3"}, PrivateIP: "10.0.2.9"}, {Subnet: "subnet-1"}}, map[string]string{
			"NetworkInterface.1.DeviceIndex": "0", "NetworkInterface.1.SubnetId": "subnet-1", "NetworkInterface.1.SecurityGroupId.1": "sg-1",
			"NetworkInterface.1.PrivateIpAddress": "10.0.0.7", "NetworkInterface.1.DeleteOnTermination": "true",
			"NetworkInterface.2.DeviceIndex": "1", "NetworkInterface.2.SubnetId": "subnet-2", "NetworkInterface.2.SecurityGroupId.1": "sg-2", "NetworkInterface.2.SecurityGroupId.2": "sg-3",
			"NetworkInterface.2.PrivateIpAddress": "10.0.2.9", "NetworkInterface.2.DeleteOnTermination": "true",
			"NetworkInterface.3.DeviceIndex": "2", "NetworkInterface.3.SubnetId": "subnet-1", "NetworkInterface.3.DeleteOnTermination": "true",
		}},
	} {
		spec.Interfaces = s.more
		if _, err := c.RunInstance(t.Context(), spec); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s.want, asked); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
