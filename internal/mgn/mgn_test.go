package mgn

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// theirSettings are MGN's replication and launch settings, by their names in its API.
const theirSettings = `StagingAreaSubnetId AssociateDefaultSecurityGroup ReplicationServersSecurityGroupsIDs ReplicationServerInstanceType
	UseDedicatedReplicationServer DefaultLargeStagingDiskType StagingDiskType Iops Throughput IsBootDisk EbsEncryption EbsEncryptionKeyArn
	BandwidthThrottling DataPlaneRouting CreatePublicIP StagingAreaTags UseFipsEndpoint InternetProtocol StoreSnapshotOnLocalZone
	BootMode CopyPrivateIp CopyTags AssociatePublicIpAddress LaunchDisposition OsByol TargetInstanceTypeRightSizingMethod
	SmallVolumeMaxSize SmallVolumeConf LargeVolumeConf EnableMapAutoTagging MapAutoTaggingMpeID EnableParametersEncryption
	PostLaunchActions Ec2LaunchTemplateID`

func TestEachSettingOfMGNStandsInTheTable(t *testing.T) {
	page, err := os.ReadFile("../../docs/from-mgn.md")
	if err != nil {
		t.Fatal(err)
	}
	places := map[string]string{}
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, "|"); len(cells) == 4 {
			for name := range strings.SplitSeq(cells[1], ",") {
				places[strings.Trim(name, " `")] = strings.TrimSpace(cells[2])
			}
		}
	}
	for _, name := range append(Settings(), strings.Fields(theirSettings)...) {
		if places[name] == "" {
			t.Errorf("docs/from-mgn.md says nothing about %s", name)
		}
	}
}

func TestAHundredThousandRows(t *testing.T) {
	var text strings.Builder
	fmt.Fprintf(&text, "%s,%s,%s\n", appName, serverID, typeName)
	const n = 100_000
	for i := range n {
		fmt.Fprintf(&text, "app-%d,server-%d,t3.small\n", i/5, i)
	}
	begin := time.Now()
	in, err := Import("inventory.csv", text.String())
	if err != nil || len(in.Fleet.Servers) != n || len(in.Fleet.Launches) != 1 {
		t.Fatalf("%d servers, %d launch blocks: %v", len(in.Fleet.Servers), len(in.Fleet.Launches), err)
	}
	if took := time.Since(begin); took > 3*time.Minute {
		t.Errorf("took %v", took)
	}
}

func FuzzImport(f *testing.F) {
	f.Add(serverID + ",mgn:launch:nic:3:private-ip:0\na,10.0.0.1\n")
	f.Add("mgn:launch:volume:c:0:type\n\"")
	f.Fuzz(func(t *testing.T, text string) {
		in, err := Import("inventory.csv", text)
		if err != nil {
			return
		}
		var out strings.Builder
		if err := WriteHCL(&out, in); err != nil {
			t.Fatal(err)
		}
	})
}
